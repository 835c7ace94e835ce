use super::*;

#[test]
fn dbg() {
    let f = std::env::var("DBG").unwrap();
    let t = extract(&std::fs::read(&f).unwrap(), &Options { name: Some(f), ..Default::default() });
    println!("{t:#?}");
}
