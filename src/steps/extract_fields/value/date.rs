//! Calendar dates as people print them.

use chrono::NaiveDate;

use super::locale::{self, DateOrder, LocaleRules};
use super::{Unreadable, ascii_digit};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// A piece of a printed date.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Number { value: u32, digits: usize },
    Word(String),
}

/// Reads a date by the first of the strftime `formats` that fits; months may
/// be named in any known language.
///
/// # Errors
/// [`Unreadable::NotADate`] if none fits.
pub fn parse_with(
    text: &str,
    formats: &[String],
    rules: Option<&LocaleRules>,
) -> Result<NaiveDate, Unreadable> {
    let text: String = text.chars().map(ascii_digit).collect();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let english = in_english(&text, rules);
    // Of the two, only `%B` reads whole and abbreviated names alike.
    let mut formats = formats.iter().map(|format| format.replace("%b", "%B").replace("%h", "%B"));
    let read = |text: &str, format: &str| NaiveDate::parse_from_str(text, format).ok();
    let found = formats.find_map(|format| read(&text, &format).or_else(|| read(&english, &format)));
    found.ok_or(Unreadable::NotADate)
}

/// Reads a date of any common form: a named month with day and year, three
/// numbers, or eight digits. A time of day behind it and other words are
/// passed over.
///
/// Four digits in front are the year. Where the year comes last, a number
/// above 12 is the day; else the locale's order decides; without one a date
/// with dots has the day first, and any other is ambiguous.
///
/// # Errors
/// [`Unreadable::AmbiguousDate`] if day and month cannot be told apart, else
/// [`Unreadable::NotADate`].
pub fn parse(text: &str, rules: Option<&LocaleRules>) -> Result<NaiveDate, Unreadable> {
    let tokens = tokens(text);
    let numbers: Vec<(u32, usize)> = tokens.iter().filter_map(number).collect();
    match (numbers.as_slice(), named_month(&tokens, rules)) {
        ([first, second], Some(month)) => with_named_month(*first, month, *second),
        ([first, second, third], None) => {
            numeric([*first, *second, *third], text, rules.and_then(|rules| rules.date_order))
        }
        ([(value, 8)], None) => date(value / 10_000, value / 100 % 100, value % 100),
        _ => Err(Unreadable::NotADate),
    }
}

/// Splits into numbers and words, up to a time of day.
fn tokens(text: &str) -> Vec<Token> {
    let text: String = text.chars().map(ascii_digit).collect();
    let mut rest = text.as_str();
    let mut tokens = Vec::new();
    while let Some(first) = rest.chars().next() {
        let same_kind = |c: char| {
            if first.is_ascii_digit() { c.is_ascii_digit() } else { is_letter(c) }
        };
        let end = rest.find(|c| !same_kind(c)).unwrap_or(rest.len()).max(first.len_utf8());
        let (piece, behind) = rest.split_at(end);
        if first.is_ascii_digit() {
            if is_time(behind) {
                break;
            }
            let Ok(value) = piece.parse() else {
                return Vec::new();
            };
            tokens.push(Token::Number { value, digits: piece.len() });
        } else if is_letter(first) {
            tokens.push(Token::Word(piece.to_owned()));
        }
        rest = behind;
    }
    tokens
}

/// Letters, and the accents that follow them where text is decomposed.
fn is_letter(c: char) -> bool {
    c.is_alphabetic() || unicode_normalization::char::is_combining_mark(c)
}

/// Whether what follows a number makes it the hour of a time of day.
fn is_time(behind: &str) -> bool {
    behind
        .strip_prefix(':')
        .is_some_and(|minutes| minutes.starts_with(|c: char| c.is_ascii_digit()))
}

fn number(token: &Token) -> Option<(u32, usize)> {
    match token {
        Token::Number { value, digits } => Some((*value, *digits)),
        Token::Word(_) => None,
    }
}

/// The one month that the words name. A word that is also a weekday (`mar.`
/// in French) yields to one that is not.
fn named_month(tokens: &[Token], rules: Option<&LocaleRules>) -> Option<u32> {
    let words = tokens.iter().filter_map(|token| match token {
        Token::Word(word) => Some(word),
        Token::Number { .. } => None,
    });
    let mut named: Vec<(&String, u32)> =
        words.filter_map(|word| Some((word, locale::month(word, rules)?))).collect();
    if named.len() > 1 {
        named.retain(|(word, _)| !locale::is_weekday(word));
    }
    match named.as_slice() {
        [(_, month)] => Some(*month),
        _ => None,
    }
}

fn with_named_month(
    first: (u32, usize),
    month: u32,
    second: (u32, usize),
) -> Result<NaiveDate, Unreadable> {
    let (day, year) = if first.1 == 4 { (second, first) } else { (first, second) };
    date(full_year(year).ok_or(Unreadable::NotADate)?, month, day.0)
}

fn numeric(
    parts: [(u32, usize); 3],
    text: &str,
    order: Option<DateOrder>,
) -> Result<NaiveDate, Unreadable> {
    let [first, second, third] = parts;
    let year_first = first.1 == 4 || (third.1 != 4 && order == Some(DateOrder::YearMonthDay));
    if year_first {
        return date(full_year(first).ok_or(Unreadable::NotADate)?, second.0, third.0);
    }
    let year = full_year(third).ok_or(Unreadable::NotADate)?;
    let day_first = date(year, second.0, first.0);
    let month_first = date(year, first.0, second.0);
    match (day_first, month_first) {
        (Ok(day_first), Ok(month_first)) if day_first != month_first => match order {
            Some(DateOrder::DayMonthYear) => Ok(day_first),
            Some(DateOrder::MonthDayYear) => Ok(month_first),
            _ if text.contains('.') => Ok(day_first),
            _ => Err(Unreadable::AmbiguousDate),
        },
        (day_first, month_first) => day_first.or(month_first),
    }
}

/// A year of two digits is one of 1969 to 2068, as POSIX has it.
fn full_year((value, digits): (u32, usize)) -> Option<u32> {
    match (digits, value) {
        (4, year) => Some(year),
        (2, 69..) => Some(1900 + value),
        (2, _) => Some(2000 + value),
        _ => None,
    }
}

fn date(year: u32, month: u32, day: u32) -> Result<NaiveDate, Unreadable> {
    let year = i32::try_from(year).map_err(|_| Unreadable::NotADate)?;
    NaiveDate::from_ymd_opt(year, month, day).filter(|_| year > 0).ok_or(Unreadable::NotADate)
}

/// Replaces the words that name months by the English names that strftime
/// formats understand.
fn in_english(text: &str, rules: Option<&LocaleRules>) -> String {
    let mut english = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let same_kind = |c: char| is_letter(c) == is_letter(first);
        let (piece, behind) = rest.split_at(rest.find(|c| !same_kind(c)).unwrap_or(rest.len()));
        let month = if is_letter(first) { locale::month(piece, rules) } else { None };
        let name = month.and_then(|month| MONTHS.get(month as usize - 1));
        english.push_str(name.unwrap_or(&piece));
        rest = behind;
    }
    english
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str, tag: &str) -> Result<String, Unreadable> {
        parse(text, LocaleRules::from_tag(tag).as_ref()).map(|date| date.to_string())
    }

    #[test]
    fn dates_with_named_months_are_read_in_many_languages() {
        let cases = [
            ("August 3 , 2014", "2014-08-03"),
            ("7. Mai 2014", "2014-05-07"),
            ("19 april 2014", "2014-04-19"),
            ("02 Juillet 2015", "2015-07-02"),
            ("1er février 2015", "2015-02-01"),
            ("mar. 5 mai 2015", "2015-05-05"),
            ("Mon, 5 May 2014", "2014-05-05"),
            ("May 19th, 2014", "2014-05-19"),
            ("12 de abril de 2014", "2014-04-12"),
            ("12 d'abril del 2014", "2014-04-12"),
            ("03-Mrt-2014", "2014-03-03"),
            ("23 Sept. 14", "2014-09-23"),
            ("2014 May 7", "2014-05-07"),
            ("5 stycznia 2024 r.", "2024-01-05"),
            ("2024. október 5.", "2024-10-05"),
            ("7 May 2014 10:30", "2014-05-07"),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text, ""), Ok(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn numeric_dates_that_can_mean_one_day_only_need_no_locale() {
        let cases = [
            ("2014-05-07", "2014-05-07"),
            ("2014/05/07", "2014-05-07"),
            ("2014年5月7日", "2014-05-07"),
            ("20140507", "2014-05-07"),
            ("2014-05-07T23:59:59Z", "2014-05-07"),
            ("28/11/2022", "2022-11-28"),
            ("11/28/2022", "2022-11-28"),
            ("5/5/2014", "2014-05-05"),
            ("7.5.2014", "2014-05-07"),
            ("01.05.14", "2014-05-01"),
            ("31.12.99", "1999-12-31"),
            ("٢٠٢٤-٠٥-٠٧", "2024-05-07"),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text, ""), Ok(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn the_locale_orders_what_is_ambiguous() {
        assert_eq!(read("8-9-2022", ""), Err(Unreadable::AmbiguousDate));
        assert_eq!(read("8/9/2022", "en"), Err(Unreadable::AmbiguousDate));
        assert_eq!(read("8-9-2022", "nl"), Ok("2022-09-08".to_owned()));
        assert_eq!(read("8/9/2022", "en-US"), Ok("2022-08-09".to_owned()));
        assert_eq!(read("8/9/2022", "en-GB"), Ok("2022-09-08".to_owned()));
        assert_eq!(read("28/9/2022", "en-US"), Ok("2022-09-28".to_owned()));
        assert_eq!(read("14-05-07", "sv"), Ok("2014-05-07".to_owned()));
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for text in
            ["", "2014", "August 2014", "31.02.2014", "32/13/2014", "7 Foo 2014", "1.2", "0.0.0"]
        {
            assert_eq!(read(text, "de"), Err(Unreadable::NotADate), "{text}");
        }
    }

    #[test]
    fn a_format_is_followed_with_months_in_any_language() {
        let read = |text, format: &str| {
            parse_with(text, &[format.to_owned()], None).map(|date| date.to_string())
        };
        assert_eq!(read("05/07/14", "%m/%d/%y"), Ok("2014-05-07".to_owned()));
        assert_eq!(read("7. Mai  2014", "%d. %B %Y"), Ok("2014-05-07".to_owned()));
        assert_eq!(read("2014, 7 mrt", "%Y, %d %b"), Ok("2014-03-07".to_owned()));
        assert_eq!(read("07.05.2014", "%d/%m/%Y"), Err(Unreadable::NotADate));
    }

    proptest! {
        #[test]
        fn a_printed_date_is_read_back(
            days in 0_i32..36_000,
            style in prop::sample::select(vec![
                ("%d.%m.%Y", "de"), ("%m/%d/%Y", "en-US"), ("%d/%m/%Y", "fr"), ("%Y-%m-%d", ""),
                ("%B %d, %Y", ""), ("%d %b %Y", "en"), ("%A, %-d %B %Y", "es"), ("%Y%m%d", "nl"),
            ]),
        ) {
            let date = NaiveDate::from_ymd_opt(1970, 1, 1).unwrap()
                + chrono::Duration::days(days.into());
            let text = date.format(style.0).to_string();
            let rules = LocaleRules::from_tag(style.1);
            prop_assert_eq!(parse(&text, rules.as_ref()), Ok(date), "{}", text);
            prop_assert_eq!(parse_with(&text, &[style.0.to_owned()], None), Ok(date));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[0-9 ./A-Za-z:-]{0,16}|.{0,12}") {
            let _ = parse(&text, None);
            let _ = parse_with(&text, &["%d %B %Y".to_owned()], None);
        }
    }
}
