//! From bytes of any encoding to text.

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, ISO_2022_JP, UTF_8, UTF_16BE, UTF_16LE};

/// How much of a text is looked at to recognise UTF-16.
const SAMPLE: usize = 4096;
/// How much of a text is fed to the statistical detector.
const DETECTOR_SAMPLE: usize = 1 << 20;

/// The text of `bytes`. What the bytes show beyond doubt (a byte order mark,
/// valid UTF-8, the zero bytes of UTF-16) goes before `declared`, a label such
/// as `windows-1252`; without either the encoding is guessed.
pub(super) fn decode(bytes: &[u8], declared: Option<&str>) -> String {
    if let Some(text) = decode_utf32(bytes) {
        return text;
    }
    let (text, _, _) = encoding(bytes, declared).decode(bytes);
    text.into_owned()
}

/// The text of `bytes` in a Windows code page, as old Microsoft formats name
/// it; windows-1252 if it is unknown.
pub(super) fn decode_codepage(bytes: &[u8], codepage: u32) -> String {
    codepage_encoding(codepage).decode_without_bom_handling(bytes).0.into_owned()
}

/// The encoding of a Windows code page number.
pub(super) fn codepage_encoding(codepage: u32) -> &'static Encoding {
    let label = match codepage {
        874 => "windows-874".to_owned(),
        932 => "shift_jis".to_owned(),
        936 => "gbk".to_owned(),
        949 => "euc-kr".to_owned(),
        950 => "big5".to_owned(),
        1200 => "utf-16le".to_owned(),
        1201 => "utf-16be".to_owned(),
        10000 => "macintosh".to_owned(),
        10007 => "x-mac-cyrillic".to_owned(),
        20866 => "koi8-r".to_owned(),
        20932 | 51932 => "euc-jp".to_owned(),
        21866 => "koi8-u".to_owned(),
        28591..=28606 => format!("iso-8859-{}", codepage - 28590),
        50220..=50222 => "iso-2022-jp".to_owned(),
        51949 => "euc-kr".to_owned(),
        54936 => "gb18030".to_owned(),
        65001 => "utf-8".to_owned(),
        866 => "ibm866".to_owned(),
        other => format!("windows-{other}"),
    };
    Encoding::for_label(label.as_bytes()).unwrap_or(encoding_rs::WINDOWS_1252)
}

fn encoding(bytes: &[u8], declared: Option<&str>) -> &'static Encoding {
    if let Some((encoding, _)) = Encoding::for_bom(bytes) {
        return encoding;
    }
    if let Some(encoding) = utf16_without_mark(bytes) {
        return encoding;
    }
    // All of ISO-2022-JP is valid UTF-8 too; its escape gives it away.
    let escapes = bytes.windows(3).any(|three| matches!(three, [0x1b, b'$', b'@' | b'B']));
    if escapes && ISO_2022_JP.decode_without_bom_handling_and_without_replacement(bytes).is_some() {
        return ISO_2022_JP;
    }
    if std::str::from_utf8(bytes).is_ok() {
        return UTF_8;
    }
    let declared = declared.and_then(|label| Encoding::for_label(label.trim().as_bytes()));
    if let Some(declared) = declared.filter(|encoding| fits(encoding, bytes)) {
        return declared;
    }
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    let sample = bytes.get(..DETECTOR_SAMPLE).unwrap_or(bytes);
    detector.feed(sample, true);
    detector.guess(None, Utf8Detection::Deny)
}

/// Whether a declaration can be believed: an encoding that cannot read the
/// bytes is wrong, unless it is UTF-8 that is only damaged here and there.
fn fits(encoding: &'static Encoding, bytes: &[u8]) -> bool {
    let (text, _, malformed) = encoding.decode(bytes);
    if !malformed {
        return encoding != UTF_16LE && encoding != UTF_16BE;
    }
    let broken = text.chars().filter(|&c| c == char::REPLACEMENT_CHARACTER).count();
    encoding == UTF_8 && broken * 100 < text.chars().filter(|c| !c.is_ascii()).count() * 20
}

/// Text of mostly Latin letters, digits, spaces and line breaks in UTF-16 has
/// a zero in nearly every second byte.
fn utf16_without_mark(bytes: &[u8]) -> Option<&'static Encoding> {
    let sample = bytes.get(..SAMPLE).unwrap_or(bytes);
    let pairs = sample.len() / 2;
    let zeros = |at: usize| sample.iter().skip(at).step_by(2).filter(|&&b| b == 0).count();
    let (even, odd) = (zeros(0), zeros(1));
    if pairs < 2 {
        None
    } else if odd * 10 >= pairs * 4 && even * 20 <= pairs {
        Some(UTF_16LE)
    } else if even * 10 >= pairs * 4 && odd * 20 <= pairs {
        Some(UTF_16BE)
    } else {
        None
    }
}

/// UTF-32 with a byte order mark, which the WHATWG encodings leave out.
fn decode_utf32(bytes: &[u8]) -> Option<String> {
    let unit: fn([u8; 4]) -> u32 = match bytes {
        [0xff, 0xfe, 0, 0, ..] => u32::from_le_bytes,
        [0, 0, 0xfe, 0xff, ..] => u32::from_be_bytes,
        _ => return None,
    };
    let (units, _) = bytes.as_chunks::<4>();
    let chars = units.iter().skip(1).map(|&four| char::from_u32(unit(four)));
    Some(chars.map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect())
}
