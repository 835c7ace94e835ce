//! The two invoices. Companies, people and numbers are invented.
// Hundredths stand apart from the whole, as they are printed.
#![allow(clippy::inconsistent_digit_grouping)]

use crate::invoice::{Format, Invoice, Item};

const fn item(
    article: &'static str,
    description: &'static str,
    quantity: i64,
    unit: &'static str,
    price: i64,
) -> Item {
    Item { article, description, quantity, unit, price }
}

/// One page, in English, amounts like `1,234.50`.
pub fn timber() -> Invoice {
    Invoice {
        language: "en-GB",
        accent: [0.09, 0.35, 0.42],
        seller: ["Weir & Sluice Timberworks", "Seasoned oak, larch and mill fittings since 1987"],
        sender: "Weir & Sluice Timberworks Ltd · 14 Tail Race Lane · Hebden Vale HV7 4QX",
        buyer: &[
            "Larkspur Restorations Ltd",
            "Attn. Imogen Achterberg",
            "Unit 3, The Old Granary",
            "22 Kiln Street",
            "Marlow Bridge MB2 9TN",
        ],
        heading: "Invoice",
        references: &[
            ["Invoice number", "WS-2026-0417"],
            ["Invoice date", "14 October 2026"],
            ["Due date", "13 November 2026"],
            ["Customer number", "C-20318"],
            ["Your order", "PO 88-1204"],
            ["Delivered", "9 October 2026"],
        ],
        columns: ["Pos.", "Article", "Description", "Quantity", "Unit", "Unit price", "Amount"],
        items: TIMBER,
        carried: "Carried forward",
        sums: ["Subtotal", "Total due"],
        tax: ("VAT", 20),
        format: Format { group: ',', point: '.', currency: "GBP" },
        terms: &[
            "Terms of payment",
            "Payable within 30 days of the invoice date, without deduction.",
            "Please quote the invoice number WS-2026-0417 with your transfer.",
            "Goods remain the property of Weir & Sluice Timberworks Ltd until paid in full.",
        ],
        footer: [
            [
                "Weir & Sluice Timberworks Ltd",
                "14 Tail Race Lane",
                "Hebden Vale HV7 4QX",
                "accounts@weir-sluice.example",
            ],
            [
                "Registered in England",
                "Company no. 00000417",
                "VAT no. GB 000 0417 00",
                "www.weir-sluice.example",
            ],
            [
                "Bank of Hebden Vale",
                "Sort code 00-04-17",
                "Account 00020318",
                "IBAN GB00 BHVA 0004 1700 0203 18",
            ],
        ],
        page: ["Page", "of"],
    }
}

/// Two pages, in German, amounts like `1.234,50`.
pub fn tools() -> Invoice {
    Invoice {
        language: "de-DE",
        accent: [0.47, 0.16, 0.14],
        seller: ["Mühlbach Werkzeug GmbH", "Werkzeug, Beschläge und Maschinen für Holz und Metall"],
        sender: "Mühlbach Werkzeug GmbH · Am Wehr 9 · 00417 Unterbach",
        buyer: &[
            "Schreinerei Gebrüder Öhlmann OHG",
            "z. Hd. Frau Katharina Öhlmann",
            "Zimmererweg 31",
            "00983 Neustadt am Graben",
        ],
        heading: "Rechnung",
        references: &[
            ["Rechnungsnummer", "2026-100583"],
            ["Rechnungsdatum", "03.11.2026"],
            ["Fällig am", "17.11.2026"],
            ["Kundennummer", "40721"],
            ["Ihre Bestellung", "B-7715 vom 28.10.2026"],
        ],
        columns: ["Pos.", "Artikel", "Bezeichnung", "Menge", "Einheit", "Einzelpreis", "Betrag"],
        items: TOOLS,
        carried: "Übertrag",
        sums: ["Zwischensumme", "Gesamtbetrag"],
        tax: ("MwSt.", 19),
        format: Format { group: '.', point: ',', currency: "EUR" },
        terms: &[
            "Zahlungsbedingungen",
            "Zahlbar innerhalb von 14 Tagen ohne Abzug.",
            "Bei Zahlung innerhalb von 7 Tagen gewähren wir 2 % Skonto auf den Warenwert.",
            "Bitte geben Sie bei der Überweisung die Rechnungsnummer 2026-100583 an.",
        ],
        footer: [
            [
                "Mühlbach Werkzeug GmbH",
                "Am Wehr 9",
                "00417 Unterbach",
                "rechnung@muehlbach-werkzeug.example",
            ],
            [
                "Amtsgericht Unterbach",
                "HRB 00417",
                "USt-IdNr. DE000041700",
                "Geschäftsführerin: Lioba Tann",
            ],
            [
                "Volksbank Unterbach",
                "IBAN DE00 0004 1700 0040 7210 00",
                "BIC UNTBDE00XXX",
                "www.muehlbach-werkzeug.example",
            ],
        ],
        page: ["Seite", "von"],
    }
}

const TIMBER: &[Item] = &[
    item("OB-2740", "Oak boards, planed, 27 x 140 mm", 48_00, "m", 14_85),
    item("OB-4060", "Oak beam, green, 200 x 200 mm", 12_50, "m", 96_40),
    item("LP-0035", "Larch paddle blanks, 35 mm", 24_00, "pcs", 31_25),
    item("WF-1180", "Wheel shaft bearing, lignum vitae", 2_00, "pcs", 418_00),
    item("FX-0016", "Coach bolts M16 x 220, galvanised", 96_00, "pcs", 3_15),
    item("TR-0500", "Linseed tar, 5 litre can", 6_00, "cans", 42_90),
    item("SV-0001", "Workshop hours, fitting and trueing", 7_50, "h", 58_00),
    item("DL-0002", "Delivery by flatbed lorry", 1_00, "trip", 145_00),
];

const TOOLS: &[Item] = &[
    item("HB-1020", "Hobelbank Buche, 2 m, zwei Zangen", 1_00, "Stück", 1_489_00),
    item("ST-0612", "Stechbeitel-Satz, 6-teilig", 4_00, "Satz", 89_90),
    item("SG-2400", "Japansäge Ryoba 240 mm", 6_00, "Stück", 38_50),
    item("SG-2401", "Ersatzblatt Ryoba 240 mm", 12_00, "Stück", 19_95),
    item("ZW-0800", "Schraubzwinge 800 x 120 mm", 24_00, "Stück", 27_40),
    item("ZW-1250", "Korpuszwinge 1250 mm", 8_00, "Stück", 54_80),
    item("SP-0180", "Schleifpapier K180, Rolle 50 m", 3_00, "Rolle", 46_25),
    item("SP-0240", "Schleifpapier K240, Rolle 50 m", 3_00, "Rolle", 46_25),
    item("LM-0005", "Holzleim D3, 5 kg", 10_00, "Eimer", 31_60),
    item("OL-0025", "Hartwachsöl seidenmatt, 2,5 l", 7_00, "Dose", 72_90),
    item("DB-0635", "Dübel Buche 6 x 35, 1000 Stück", 5_00, "Beutel", 18_75),
    item("FR-0812", "Nutfräser HW 8 mm, Schaft 12", 3_00, "Stück", 34_20),
    item("FR-1212", "Bündigfräser HW 12,7 mm", 2_00, "Stück", 41_10),
    item("BO-0110", "Holzspiralbohrer-Satz, 10-teilig", 2_00, "Satz", 64_50),
    item("BS-3125", "Bandsägeblatt 3125 x 16 mm", 5_00, "Stück", 29_85),
    item("KS-0250", "Kreissägeblatt 250 mm, 60 Zähne", 2_00, "Stück", 118_00),
    item("BE-4035", "Topfband 110°, gedämpft", 120_00, "Stück", 3_45),
    item("BE-0450", "Auszug Vollauszug 450 mm, Paar", 36_00, "Paar", 22_95),
    item("BE-0128", "Griffleiste Edelstahl 128 mm", 60_00, "Stück", 6_80),
    item("KA-0023", "Kantenumleimer Eiche 23 mm", 250_00, "m", 1_35),
    item("PL-1900", "Tischlerplatte 19 mm, gehobelt", 18_75, "m²", 43_60),
    item("SN-4050", "Senkkopfschrauben 4,0 x 50, 500 St.", 8_00, "Karton", 16_40),
    item("MS-0150", "Streichmaß Weißbuche", 3_00, "Stück", 32_00),
    item("SV-0100", "Schärfdienst, Hobelmesser 400 mm", 6_00, "Stück", 24_00),
    item("SV-0200", "Montagestunden vor Ort", 3_50, "Std.", 68_00),
    item("VS-0001", "Fracht, Spedition frei Haus", 1_00, "Pausch.", 79_00),
];
