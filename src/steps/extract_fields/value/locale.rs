//! What a locale settles about numbers and dates, from the GNU C Library's
//! locale data.

use std::collections::HashMap;
use std::sync::LazyLock;

use pure_rust_locales::{Locale, locale_match};
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// The locales that speak for their language where a tag gives no region, and
/// whose month names are known everywhere. Any other locale works by its full
/// name.
const COMMON: &[Locale] = &[
    Locale::af_ZA,
    Locale::az_AZ,
    Locale::bg_BG,
    Locale::bs_BA,
    Locale::ca_ES,
    Locale::cs_CZ,
    Locale::cy_GB,
    Locale::da_DK,
    Locale::de_AT,
    Locale::de_CH,
    Locale::de_DE,
    Locale::el_GR,
    Locale::en_GB,
    Locale::en_US,
    Locale::es_AR,
    Locale::es_CL,
    Locale::es_CO,
    Locale::es_ES,
    Locale::es_MX,
    Locale::et_EE,
    Locale::eu_ES,
    Locale::fi_FI,
    Locale::fr_BE,
    Locale::fr_CA,
    Locale::fr_CH,
    Locale::fr_FR,
    Locale::ga_IE,
    Locale::gl_ES,
    Locale::he_IL,
    Locale::hr_HR,
    Locale::hu_HU,
    Locale::id_ID,
    Locale::is_IS,
    Locale::it_IT,
    Locale::ja_JP,
    Locale::ko_KR,
    Locale::lb_LU,
    Locale::lt_LT,
    Locale::lv_LV,
    Locale::mk_MK,
    Locale::ms_MY,
    Locale::mt_MT,
    Locale::nb_NO,
    Locale::nl_BE,
    Locale::nl_NL,
    Locale::nn_NO,
    Locale::pl_PL,
    Locale::pt_BR,
    Locale::pt_PT,
    Locale::ro_RO,
    Locale::ru_RU,
    Locale::sk_SK,
    Locale::sl_SI,
    Locale::sq_AL,
    Locale::sr_RS,
    Locale::sr_RS_latin,
    Locale::sv_SE,
    Locale::tr_TR,
    Locale::uk_UA,
    Locale::vi_VN,
    Locale::zh_CN,
    Locale::zh_TW,
];

/// The months' names and abbreviations of all common locales; `None` for a
/// name that means different months in different languages. Derived from
/// constants and never changed.
static COMMON_MONTHS: LazyLock<HashMap<String, Option<u32>>> = LazyLock::new(|| {
    let mut months = HashMap::new();
    for (name, month) in COMMON.iter().copied().flat_map(month_names) {
        let known = months.entry(name).or_insert(Some(month));
        if *known != Some(month) {
            *known = None;
        }
    }
    months
});

/// The order in which a numeric date gives its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DateOrder {
    /// `7.5.2014`
    DayMonthYear,
    /// `5/7/2014`
    MonthDayYear,
    /// `2014-05-07`
    YearMonthDay,
}

/// What is known of numbers and dates where a document was written.
#[derive(Debug, Clone)]
pub struct LocaleRules {
    regions: Vec<Locale>,
    /// `.` or `,`; none if the language's regions differ evenly.
    pub decimal_separator: Option<char>,
    /// None if the language's regions differ, as for `en`.
    pub date_order: Option<DateOrder>,
}

impl LocaleRules {
    /// Looks up a language (`de`) or a language and region (`en-IN`,
    /// `pt_BR`).
    pub fn from_tag(tag: &str) -> Option<Self> {
        let regions: Vec<Locale> = match tag.split_once(['-', '_']) {
            Some((language, region)) => {
                let name =
                    format!("{}_{}", language.to_ascii_lowercase(), region.to_ascii_uppercase());
                vec![Locale::try_from(name.as_str()).ok()?]
            }
            None => {
                let language = tag.to_ascii_lowercase();
                COMMON.iter().copied().filter(|it| language_of(*it) == language).collect()
            }
        };
        if regions.is_empty() {
            return None;
        }
        let decimal_separator = majority(regions.iter().copied().filter_map(decimal_separator));
        let date_order = agreed_order(&regions);
        Some(Self { regions, decimal_separator, date_order })
    }

    /// The month that `word` names here.
    fn month(&self, word: &str) -> Option<u32> {
        let names: Vec<_> = self.regions.iter().copied().flat_map(month_names).collect();
        let exact = names.iter().find(|(name, _)| name == word).map(|(_, month)| *month);
        exact.or_else(|| by_prefix(word, names.iter().map(|(name, month)| (name, Some(*month)))))
    }
}

/// The month that `word` names, whole or shortened: in `rules`' language if
/// it is known there, else in any common language, if all that know the word
/// mean the same month.
pub fn month(word: &str, rules: Option<&LocaleRules>) -> Option<u32> {
    let word = fold(word);
    rules.and_then(|rules| rules.month(&word)).or_else(|| match COMMON_MONTHS.get(&word) {
        Some(month) => *month,
        None => by_prefix(&word, COMMON_MONTHS.iter().map(|(name, month)| (name, *month))),
    })
}

/// Whether `word` is a weekday's name or abbreviation in a common language.
pub fn is_weekday(word: &str) -> bool {
    let word = fold(word);
    COMMON.iter().any(|&locale| {
        let names = locale_match!(locale => LC_TIME::DAY);
        let short = locale_match!(locale => LC_TIME::ABDAY);
        names.iter().chain(short).any(|name| fold(name) == word)
    })
}

/// Lower case without accents and dots: capitals are often printed without
/// their accents, abbreviations with or without a full stop.
fn fold(name: &str) -> String {
    let bare = name.nfd().filter(|c| !is_combining_mark(*c) && *c != '.');
    bare.flat_map(char::to_lowercase).filter(|c| !is_combining_mark(*c)).collect()
}

/// A shortened name, such as `sept`, of at least three letters; `None` if two
/// months begin with it.
fn by_prefix<'a>(
    word: &str,
    names: impl Iterator<Item = (&'a String, Option<u32>)>,
) -> Option<u32> {
    if word.chars().count() < 3 {
        return None;
    }
    let mut months = names.filter(|(name, _)| name.starts_with(word)).map(|(_, month)| month);
    let first = months.next()?;
    first.filter(|_| months.all(|month| month == first))
}

/// Every written form of the months, folded. Names with digits, as in
/// Japanese, are left to the numeric reading.
fn month_names(locale: Locale) -> Vec<(String, u32)> {
    let written = [
        Some(locale_match!(locale => LC_TIME::MON)),
        Some(locale_match!(locale => LC_TIME::ABMON)),
        locale_match!(locale => LC_TIME::ALT_MON),
        locale_match!(locale => LC_TIME::AB_ALT_MON),
    ];
    let numbered = written.into_iter().flatten().flat_map(|names| names.iter().zip(1..=12));
    numbered
        .map(|(name, month)| (fold(name).trim().to_owned(), month))
        .filter(|(name, _)| !name.is_empty() && name.chars().all(char::is_alphabetic))
        .collect()
}

fn language_of(locale: Locale) -> String {
    let name = locale.to_string();
    name.split_once('_').map_or(name.clone(), |(language, _)| language.to_owned())
}

fn decimal_separator(locale: Locale) -> Option<char> {
    match locale_match!(locale => LC_MONETARY::MON_DECIMAL_POINT) {
        "." => Some('.'),
        "," => Some(','),
        _ => None,
    }
}

fn majority(separators: impl Iterator<Item = char>) -> Option<char> {
    let balance: i32 = separators.map(|separator| if separator == '.' { 1 } else { -1 }).sum();
    match balance {
        1.. => Some('.'),
        0 => None,
        _ => Some(','),
    }
}

/// The order all regions share. Regions that write the year first say nothing
/// about dates with the year last and yield to those that do.
fn agreed_order(regions: &[Locale]) -> Option<DateOrder> {
    let orders: Vec<DateOrder> = regions.iter().copied().filter_map(date_order).collect();
    let year_last: Vec<DateOrder> =
        orders.iter().copied().filter(|order| *order != DateOrder::YearMonthDay).collect();
    let orders = if year_last.is_empty() { orders } else { year_last };
    let first = *orders.first()?;
    orders.iter().all(|order| *order == first).then_some(first)
}

fn date_order(locale: Locale) -> Option<DateOrder> {
    let format = locale_match!(locale => LC_TIME::D_FMT);
    let format = format.replace("%D", "%m/%d/%y").replace("%F", "%Y-%m-%d");
    let place = |letters: &[char]| format.find(letters);
    let (day, month, year) = (place(&['d', 'e'])?, place(&['m'])?, place(&['y', 'Y'])?);
    Some(if year < month {
        DateOrder::YearMonthDay
    } else if day < month {
        DateOrder::DayMonthYear
    } else {
        DateOrder::MonthDayYear
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_settles_the_separator_and_the_order() {
        let rules = |tag| LocaleRules::from_tag(tag).unwrap();
        assert_eq!(rules("de-DE").decimal_separator, Some(','));
        assert_eq!(rules("de_CH").decimal_separator, Some('.'));
        assert_eq!(rules("EN-us").date_order, Some(DateOrder::MonthDayYear));
        assert_eq!(rules("en-GB").date_order, Some(DateOrder::DayMonthYear));
        assert_eq!(rules("en-IN").date_order, Some(DateOrder::DayMonthYear));
        assert_eq!(rules("en-IN").decimal_separator, Some('.'));
        assert_eq!(rules("sv-SE").date_order, Some(DateOrder::YearMonthDay));
    }

    #[test]
    fn a_language_settles_the_order_only_where_its_regions_agree() {
        for tag in ["de", "fr", "nl", "es", "it", "pt", "pl"] {
            let rules = LocaleRules::from_tag(tag).unwrap();
            assert_eq!(rules.date_order, Some(DateOrder::DayMonthYear), "{tag}");
            assert_eq!(rules.decimal_separator, Some(','), "{tag}");
        }
        let english = LocaleRules::from_tag("en").unwrap();
        assert_eq!((english.date_order, english.decimal_separator), (None, Some('.')));
    }

    #[test]
    fn an_unknown_tag_is_no_locale() {
        for tag in ["", "xx", "xx-YY", "de-", "POSIX", "german"] {
            assert!(LocaleRules::from_tag(tag).is_none(), "{tag}");
        }
    }

    #[test]
    fn months_are_known_in_many_languages_cases_and_lengths() {
        let cases = [
            ("August", 8),
            ("Sept", 9),
            ("Mai", 5),
            ("MÄRZ", 3),
            ("maart", 3),
            ("mrt", 3),
            ("Juillet", 7),
            ("FEVRIER", 2),
            ("août", 8),
            ("dicembre", 12),
            ("septiembre", 9),
            ("março", 3),
            ("stycznia", 1),
            ("října", 10),
            ("января", 1),
            ("Ιανουαρίου", 1),
            ("Ocak", 1),
            ("heinäkuu", 7),
        ];
        for (word, expected) in cases {
            assert_eq!(month(word, None), Some(expected), "{word}");
        }
        assert_eq!(month("Invoice", None), None);
        assert_eq!(month("ju", None), None);
    }

    #[test]
    fn a_name_that_languages_use_for_different_months_needs_a_locale() {
        assert_eq!(month("listopad", None), None);
        let in_language = |tag| month("listopad", LocaleRules::from_tag(tag).as_ref());
        assert_eq!(in_language("hr"), Some(10));
        assert_eq!(in_language("cs"), Some(11));
    }

    #[test]
    fn the_months_of_large_languages_are_no_other_languages_other_months() {
        for tag in ["en", "de", "fr", "nl", "es", "it", "pt", "sv", "da"] {
            for locale in LocaleRules::from_tag(tag).unwrap().regions {
                for (name, number) in month_names(locale) {
                    let found = month(&name, None);
                    assert_eq!(found, Some(number), "{tag} {name}");
                }
            }
        }
    }
}
