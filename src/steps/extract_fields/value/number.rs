//! Exact decimals as people print them.

use rust_decimal::Decimal;

use super::{Unreadable, ascii_digit};

/// Which of `.` and `,` begins the decimals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecimalSeparator {
    /// Always this one.
    Always(char),
    /// This one, where the digits leave it open (`1.234`).
    WhereOpen(char),
    /// Told by the digits alone.
    Unknown,
}

/// Reads a number with grouped digits, a sign before or behind it or the
/// parentheses of accountants, and a currency beside it.
///
/// With `whole`, what could be grouping is grouping (`1.234` is 1234).
///
/// # Errors
/// [`Unreadable::AmbiguousNumber`] if either separator could be meant, else
/// [`Unreadable::NotANumber`].
pub fn parse(text: &str, separator: DecimalSeparator, whole: bool) -> Result<Decimal, Unreadable> {
    let text: String = text.chars().filter_map(plain).collect();
    let (before, digits, after) = around_digits(&text).ok_or(Unreadable::NotANumber)?;
    let negative = is_negative(before, after)?;
    let digits = digits.replace(" .", ".").replace(" ,", ",").replace(". ", ".").replace(", ", ",");
    let (integer, fraction) = match decimal_position(&digits, separator, whole)? {
        Some(position) => digits.split_at(position),
        None => (digits.as_str(), ""),
    };
    let integer = ungroup(integer).ok_or(Unreadable::NotANumber)?;
    let fraction = fraction.trim_start_matches(['.', ',']);
    if !fraction.chars().all(|c| c.is_ascii_digit()) {
        return Err(Unreadable::NotANumber);
    }
    let plain = if fraction.is_empty() { integer } else { format!("{integer}.{fraction}") };
    let mut number = Decimal::from_str_exact(&plain).map_err(|_| Unreadable::NotANumber)?;
    number.set_sign_negative(negative && !number.is_zero());
    Ok(number)
}

/// One form for what is printed in many: digits, blanks, minus, apostrophe.
fn plain(c: char) -> Option<char> {
    match c {
        '\u{2212}' | '\u{2010}'..='\u{2015}' | '\u{fe63}' | '\u{ff0d}' => Some('-'),
        '\u{2019}' | '\u{2018}' | '\u{2bc}' | '\u{b4}' | '`' => Some('\''),
        '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' => None,
        c if c.is_whitespace() => Some(' '),
        // Full-width forms of ASCII, as Chinese and Japanese print them.
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0),
        '\u{ffe5}' => Some('¥'),
        c => Some(ascii_digit(c)),
    }
}

/// Splits into what stands before the number, the number from its first to
/// its last digit, and what stands behind. A separator right before the first
/// digit belongs to the number (`,50`), unless it ends a word (`Rs.50`).
fn around_digits(text: &str) -> Option<(&str, &str, &str)> {
    let is_digit = |c: char| c.is_ascii_digit();
    let first = text.find(is_digit)?;
    let end = text.rfind(is_digit)? + 1;
    let (before, _) = text.split_at(first);
    let bare = before.strip_suffix(['.', ',']).unwrap_or(before);
    let start = if bare.ends_with(char::is_alphabetic) { first } else { bare.len() };
    Some((text.get(..start)?, text.get(start..end)?, text.get(end..)?))
}

fn is_negative(before: &str, after: &str) -> Result<bool, Unreadable> {
    let after = after.trim_start();
    // `12,-`, `12.--` and, in India, `12/-` print that there are no decimals.
    let after = match after.strip_prefix(['.', ',', '/']) {
        Some(rest) => rest.trim_start_matches(['-', '=']),
        None => after,
    };
    let parentheses = before.contains('(') && after.contains(')');
    let minuses = before.matches('-').count() + after.matches('-').count();
    let beside = |text: &str| text.replace(['-', '+', '(', ')', ' '], "");
    let (before, after) = (beside(before), beside(after));
    if minuses + usize::from(parentheses) > 1 || !is_unit(&before) || !is_unit(&after) {
        return Err(Unreadable::NotANumber);
    }
    // A single letter behind a number scales it (`2k`, `3M`); `CR` and `DR`
    // give it a sign that differs between banks.
    let scaled = after.chars().count() == 1 && after.starts_with(char::is_alphabetic);
    let credit = ["CR", "DR"].iter().any(|mark| after.eq_ignore_ascii_case(mark));
    if scaled || credit {
        return Err(Unreadable::NotANumber);
    }
    Ok(minuses == 1 || parentheses)
}

/// A currency's sign, code or short name, a per cent sign, or nothing.
fn is_unit(text: &str) -> bool {
    let sign = |c: char| matches!(c, '$' | '%' | '\u{a2}'..='\u{a5}' | '\u{20a0}'..='\u{20cf}');
    text.chars().all(|c| c.is_alphabetic() || c == '.' || sign(c))
        && text.chars().filter(|c| c.is_alphabetic()).count() <= 5
}

/// Where the decimals begin, as the byte position of their separator.
fn decimal_position(
    digits: &str,
    separator: DecimalSeparator,
    whole: bool,
) -> Result<Option<usize>, Unreadable> {
    let count = |c: char| digits.matches(c).count();
    if let DecimalSeparator::Always(separator) = separator {
        return match count(separator) {
            0 | 1 => Ok(digits.find(separator)),
            _ => Err(Unreadable::NotANumber),
        };
    }
    let Some(last) = digits.rfind(['.', ',']) else {
        return Ok(None);
    };
    let (head, tail) = digits.split_at(last);
    let last_is_point = tail.starts_with('.');
    let (same, other) =
        if last_is_point { (count('.'), count(',')) } else { (count(','), count('.')) };
    if same > 1 {
        // Repeated, it groups; then the other may not stand before it.
        return if other == 0 { Ok(None) } else { Err(Unreadable::NotANumber) };
    }
    let grouped_otherwise = other > 0 || head.contains([' ', '\'']);
    let could_group = tail.len() == 4 && (1..=3).contains(&head.len()) && !head.starts_with('0');
    if grouped_otherwise || !could_group {
        return Ok(Some(last));
    }
    match separator {
        _ if whole => Ok(None),
        DecimalSeparator::WhereOpen(separator) => Ok(tail.starts_with(separator).then_some(last)),
        _ => Err(Unreadable::AmbiguousNumber),
    }
}

/// Joins grouped digits: one kind of separator, first a group of one to
/// three, last one of three, between them threes or, as in India, twos.
fn ungroup(digits: &str) -> Option<String> {
    let Some(first) = digits.find(['.', ',', ' ', '\'']) else {
        let digits = if digits.is_empty() { "0" } else { digits };
        return digits.chars().all(|c| c.is_ascii_digit()).then(|| digits.to_owned());
    };
    let separator = digits.get(first..)?.chars().next()?;
    let groups: Vec<&str> = digits.split(separator).collect();
    let (last, rest) = groups.split_last()?;
    let (first, middle) = rest.split_first()?;
    let in_threes = (1..=3).contains(&first.len()) && middle.iter().all(|group| group.len() == 3);
    let in_twos = (1..=2).contains(&first.len()) && middle.iter().all(|group| group.len() == 2);
    let well_formed = last.len() == 3 && (in_threes || in_twos);
    let joined = groups.concat();
    (well_formed && joined.chars().all(|c| c.is_ascii_digit())).then_some(joined)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn unknown(text: &str) -> Result<Decimal, Unreadable> {
        parse(text, DecimalSeparator::Unknown, false)
    }

    #[test]
    fn numbers_are_read_in_the_forms_of_many_countries() {
        let cases = [
            ("1.234,56", "1234.56"),
            ("1,234.56", "1234.56"),
            ("1 234,56", "1234.56"),
            ("1\u{202f}234,56", "1234.56"),
            ("1'234.56", "1234.56"),
            ("1’234.56", "1234.56"),
            ("1,23,456.78", "123456.78"),
            ("12,34,56,789", "123456789"),
            ("1.234.567", "1234567"),
            ("1 234", "1234"),
            ("1234.567", "1234.567"),
            ("0.125", "0.125"),
            ("0,125", "0.125"),
            ("12,5", "12.5"),
            (",50", "0.50"),
            ("717,97", "717.97"),
            ("29 .99", "29.99"),
            ("１２，３４", "12.34"),
            ("١٢", "12"),
            ("12.", "12"),
        ];
        for (text, expected) in cases {
            assert_eq!(unknown(text), Ok(expected.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn signs_and_currencies_stand_before_or_behind() {
        let cases = [
            ("(12.00)", "-12.00"),
            ("($1,234.50)", "-1234.50"),
            ("-12", "-12"),
            ("12-", "-12"),
            ("12,50-", "-12.50"),
            ("− 12", "-12"),
            ("€ -9,32", "-9.32"),
            ("-€9.32", "-9.32"),
            ("+4", "4"),
            ("$4.11", "4.11"),
            ("Rs 1939", "1939"),
            ("Rs.1939", "1939"),
            ("Rs. 19.50", "19.50"),
            ("EUR 34,73", "34.73"),
            ("34,73 EUR", "34.73"),
            ("29.99  € ", "29.99"),
            ("CHF 12.--", "12"),
            ("12,-", "12"),
            ("€ 12,- ", "12"),
            ("Rs. 1,939.50/-", "1939.50"),
            ("￥1，234．50", "1234.50"),
            ("R$ 10,00", "10.00"),
            ("21 %", "21"),
            ("100 zł", "100"),
            ("-0,00", "0.00"),
        ];
        for (text, expected) in cases {
            assert_eq!(unknown(text), Ok(expected.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn what_is_no_number_or_could_be_two_is_refused() {
        for text in [
            "",
            "-",
            "EUR",
            "abc",
            "12-34",
            "1.2.3",
            "12 34",
            "1,2345,678",
            "1.234,567.8",
            "1 234 56",
            "--5",
            "(-5)",
            "12:30",
            "2k",
            "3M",
            "5 CR",
            "4,50¹",
            "½",
            "12 of 14",
            "invoice 12",
            "99999999999999999999999999999999",
        ] {
            assert_eq!(unknown(text), Err(Unreadable::NotANumber), "{text}");
        }
        for text in ["1.234", "1,234", "€ 12.345"] {
            assert_eq!(unknown(text), Err(Unreadable::AmbiguousNumber), "{text}");
        }
    }

    #[test]
    fn a_locale_settles_only_what_the_digits_leave_open() {
        let german = DecimalSeparator::WhereOpen(',');
        let read = |text| parse(text, german, false).unwrap().to_string();
        assert_eq!(read("1.234"), "1234");
        assert_eq!(read("1,234"), "1.234");
        assert_eq!(read("3.50"), "3.50");
        let point = DecimalSeparator::Always('.');
        assert_eq!(parse("1.234", point, false).unwrap().to_string(), "1.234");
        assert_eq!(parse("1,234", point, false).unwrap().to_string(), "1234");
        assert_eq!(parse("12,50", point, false), Err(Unreadable::NotANumber));
    }

    #[test]
    fn in_a_whole_number_a_lone_separator_before_three_digits_groups() {
        let whole = |text| parse(text, DecimalSeparator::Unknown, true).unwrap().to_string();
        assert_eq!(whole("1.234"), "1234");
        assert_eq!(whole("530 848 134"), "530848134");
    }

    fn grouped(digits: &str, separator: char) -> String {
        let mut text = String::new();
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                text.push(separator);
            }
            text.push(digit);
        }
        text
    }

    proptest! {
        #[test]
        fn a_printed_decimal_is_read_back(
            units in -10_i64.pow(15)..10_i64.pow(15),
            scale in 0_u32..=6,
            style in prop::sample::select(vec![(',', '.'), ('.', ','), (' ', ','), ('\'', '.')]),
        ) {
            let number = Decimal::new(units, scale);
            let plain = number.abs().to_string();
            let (integer, fraction) = plain.split_once('.').unwrap_or((&plain, ""));
            let (group, point) = style;
            let mut text = grouped(integer, group);
            if !fraction.is_empty() {
                text.push(point);
                text.push_str(fraction);
            }
            if number.is_sign_negative() {
                text.insert(0, '-');
            }
            let separator = DecimalSeparator::Always(point);
            prop_assert_eq!(parse(&text, separator, false), Ok(number));
            if let Ok(found) = unknown(&text) {
                prop_assert_eq!(found, number);
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in "[0-9 .,'()€$-]{0,12}|.{0,12}") {
            let _ = unknown(&text);
            let _ = parse(&text, DecimalSeparator::Always(','), true);
        }
    }
}
