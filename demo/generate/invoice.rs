//! What an invoice says, and its arithmetic.

use crate::canvas::Colour;

/// An invoice; all that is printed on it.
pub struct Invoice {
    /// Language of the words, as in `en-GB`.
    pub language: &'static str,
    /// Colour of the letter head.
    pub accent: Colour,
    /// Name and line of business of the seller.
    pub seller: [&'static str; 2],
    /// Where the seller is; one line above the buyer's address.
    pub sender: &'static str,
    /// Address of the buyer.
    pub buyer: &'static [&'static str],
    /// `Invoice`.
    pub heading: &'static str,
    /// Number, dates and references, each with its label.
    pub references: &'static [[&'static str; 2]],
    /// Column heads of the items.
    pub columns: [&'static str; 7],
    /// What was sold.
    pub items: &'static [Item],
    /// Words for the sum carried to the next page.
    pub carried: &'static str,
    /// Words for subtotal and total.
    pub sums: [&'static str; 2],
    /// Word for the tax, and its rate in per cent.
    pub tax: (&'static str, i64),
    /// How amounts are printed.
    pub format: Format,
    /// Terms of payment.
    pub terms: &'static [&'static str],
    /// Columns of the footer: address, register, bank.
    pub footer: [[&'static str; 4]; 3],
    /// `Page {} of {}` in pieces.
    pub page: [&'static str; 2],
}

/// A line item.
pub struct Item {
    /// Article number.
    pub article: &'static str,
    /// What it is.
    pub description: &'static str,
    /// In hundredths.
    pub quantity: i64,
    /// What is counted.
    pub unit: &'static str,
    /// In hundredths of the currency.
    pub price: i64,
}

/// How numbers are printed.
#[derive(Clone, Copy)]
pub struct Format {
    /// Between thousands.
    pub group: char,
    /// Before decimals.
    pub point: char,
    /// Code of the currency, printed with sums.
    pub currency: &'static str,
}

impl Item {
    /// Quantity times price, rounded half up to hundredths.
    pub fn amount(&self) -> i64 {
        (self.quantity * self.price + 50) / 100
    }
}

impl Invoice {
    /// Sum of the amounts.
    pub fn subtotal(&self) -> i64 {
        self.items.iter().map(Item::amount).sum()
    }

    /// The tax on the subtotal, rounded half up.
    pub fn tax_amount(&self) -> i64 {
        (self.subtotal() * self.tax.1 + 50) / 100
    }
}

impl Format {
    /// Prints hundredths with two decimals.
    pub fn amount(self, hundredths: i64) -> String {
        format!("{}{}{:02}", self.grouped(hundredths / 100), self.point, hundredths % 100)
    }

    /// Prints hundredths with the decimals that are needed.
    pub fn quantity(self, hundredths: i64) -> String {
        match hundredths % 100 {
            0 => self.grouped(hundredths / 100),
            _ => self.amount(hundredths).trim_end_matches('0').to_owned(),
        }
    }

    /// Prints hundredths with the currency.
    pub fn sum(self, hundredths: i64) -> String {
        format!("{} {}", self.currency, self.amount(hundredths))
    }

    fn grouped(self, whole: i64) -> String {
        let digits = whole.to_string();
        let mut text = String::new();
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                text.push(self.group);
            }
            text.push(digit);
        }
        text
    }
}
