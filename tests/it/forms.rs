//! Ways of writing an address that a server must not call for a stranger.

use std::net::{Ipv4Addr, Ipv6Addr};

/// One way.
#[derive(Debug, Clone)]
pub struct Form {
    pub url: String,
    /// Whether it names this machine plainly enough for any client.
    pub is_loopback: bool,
}

/// Addresses of this machine that traps listen on.
pub const LOOPBACK: [Ipv4Addr; 4] = [
    Ipv4Addr::new(127, 0, 0, 1),
    Ipv4Addr::new(127, 0, 0, 2),
    Ipv4Addr::new(127, 1, 2, 3),
    Ipv4Addr::new(127, 255, 255, 254),
];

/// One of each range that is not public.
const INSIDE: [Ipv4Addr; 14] = [
    Ipv4Addr::new(0, 0, 0, 0),
    Ipv4Addr::new(0, 1, 2, 3),
    Ipv4Addr::new(10, 0, 0, 1),
    Ipv4Addr::new(100, 64, 0, 1),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(169, 254, 170, 2),
    Ipv4Addr::new(172, 16, 0, 1),
    Ipv4Addr::new(192, 0, 0, 192),
    Ipv4Addr::new(192, 168, 0, 1),
    Ipv4Addr::new(198, 18, 0, 1),
    Ipv4Addr::new(224, 0, 0, 1),
    Ipv4Addr::new(240, 0, 0, 1),
    Ipv4Addr::new(255, 255, 255, 255),
];

/// Addresses of IPv6 that are not public.
const INSIDE_V6: [&str; 13] = [
    "::",
    "fe80::1",
    "fe80::5efe:7f00:1",
    "fec0::1",
    "fc00::1",
    "fd00:ec2::254",
    "ff02::1",
    "ff05::1:3",
    "100::1",
    "2001:db8::1",
    "2001:20::1",
    "3fff::1",
    "5f00::1",
];

/// Names that the tests' resolver leads inside, or there the second time, or
/// there and elsewhere.
const NAMES: [&str; 20] = [
    "localhost",
    "LOCALHOST",
    "LocalHost.",
    "a.localhost",
    "localhost.localdomain",
    "ip6-localhost",
    "loc%61lhost",
    "\u{24db}\u{24de}\u{24d2}\u{24d0}\u{24db}\u{24d7}\u{24de}\u{24e2}\u{24e3}",
    "\u{ff4c}\u{ff4f}\u{ff43}\u{ff41}\u{ff4c}\u{ff48}\u{ff4f}\u{ff53}\u{ff54}",
    "lo\u{ad}calhost",
    "127.0.0.1.nip.io",
    "7f000001.nip.io",
    "localtest.me",
    "cname.test",
    "private.test",
    "rebind.test",
    "mixed.test",
    "metadata.google.internal",
    "instance-data",
    "metadata",
];

/// Every way, each once, to `port` where it can name one.
pub fn all(scheme: &str, port: u16) -> Vec<Form> {
    let mut forms = Vec::new();
    let mut add = |host: &str, is_loopback: bool| {
        forms.push(Form { url: format!("{scheme}://{host}:{port}/x"), is_loopback });
    };
    for address in LOOPBACK {
        v4(address).iter().for_each(|host| add(host, true));
    }
    for address in INSIDE {
        v4(address).iter().for_each(|host| add(host, false));
    }
    for address in [LOOPBACK[0], INSIDE[2], INSIDE[5]] {
        embedded(address).iter().for_each(|host| add(host, false));
    }
    for host in ["[::1]", "[0:0:0:0:0:0:0:1]", "[0000:0000::0001]", "[::0.0.0.1]"] {
        add(host, true);
    }
    for address in INSIDE_V6 {
        add(&format!("[{address}]"), false);
    }
    for zone in ["[::1%lo]", "[::1%25lo]", "[fe80::1%25eth0]", "[::1", "::1", "[127.0.0.1]"] {
        add(zone, false);
    }
    NAMES.iter().for_each(|name| add(name, false));
    forms.extend(tricks(scheme, port));
    let mut seen = std::collections::HashSet::new();
    forms.retain(|form| seen.insert(form.url.clone()));
    forms
}

/// Ways to write an address of IPv4.
fn v4(address: Ipv4Addr) -> Vec<String> {
    let [a, b, c, d] = address.octets();
    let (bits, tail) = (address.to_bits(), address.to_bits() & 0xff_ffff);
    let plain = address.to_string();
    let mapped = |to: fn(char) -> char| plain.chars().map(to).collect::<String>();
    let wide = |digit: char| match digit {
        '0'..='9' => char::from_u32(digit as u32 - 0x30 + 0xff10).unwrap(),
        other => other,
    };
    vec![
        plain.clone(),
        format!("{plain}."),
        bits.to_string(),
        format!("0x{bits:x}"),
        format!("0X{bits:08X}"),
        format!("0{bits:o}"),
        format!("0x{a:x}.0x{b:x}.0x{c:x}.0x{d:x}"),
        format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
        format!("000{a:o}.0x{b:x}.{c}.0{d:o}"),
        format!("{a}.{tail}"),
        format!("0x{a:x}.{b}.{}", u32::from(c) << 8 | u32::from(d)),
        plain.bytes().map(|byte| format!("%{byte:02x}")).collect(),
        mapped(wide),
        mapped(|char| if char == '.' { '\u{3002}' } else { char }),
        mapped(|char| if char == '.' { '\u{ff0e}' } else { char }),
        mapped(|char| if char == '.' { '\u{ff61}' } else { char }),
    ]
}

/// Ways to carry an address of IPv4 in one of IPv6.
fn embedded(address: Ipv4Addr) -> Vec<String> {
    let [a, b, c, d] = address.octets();
    let high = u16::from_be_bytes([a, b]);
    let low = u16::from_be_bytes([c, d]);
    let v6 = |segments: [u16; 8]| format!("[{}]", Ipv6Addr::from(segments));
    vec![
        format!("[::ffff:{address}]"),
        format!("[::FFFF:{high:x}:{low:x}]"),
        format!("[0:0:0:0:0:ffff:{address}]"),
        format!("[::{address}]"),
        format!("[::ffff:0:{address}]"),
        format!("[64:ff9b::{address}]"),
        v6([0x64, 0xff9b, 1, 0, 0, 0, high, low]),
        v6([0x2002, high, low, 0, 0, 0, 0, 1]),
        // Teredo (RFC 4380): the client's address is in its last 32 bits, inverted.
        v6([0x2001, 0, high, low, 0, 0, !high, !low]),
        v6([0xfe80, 0, 0, 0, 0, 0x5efe, high, low]),
    ]
}

/// Ways to hide where a URL leads.
fn tricks(scheme: &str, port: u16) -> Vec<Form> {
    let host = format!("127.0.0.1:{port}");
    let upper = scheme.to_uppercase();
    let plain = [
        format!("{upper}://{host}/x"),
        format!("{scheme}:{host}/x"),
        format!("{scheme}:/{host}/x"),
        format!("{scheme}:///{host}/x"),
        format!("{scheme}:\\\\{host}\\x"),
        format!(" {scheme}://{host}/x "),
        format!("{scheme}://127.0.0.1:0{port}/x"),
        format!("{scheme}://127.0\t.0.1:{port}/x"),
        format!("{scheme}://127.0.0\n.1:{port}/x"),
        format!("{scheme}://{host}#@example.com/"),
        format!("{scheme}://{host}?@example.com/"),
        format!("{scheme}://{host}/@example.com/"),
        format!("{scheme}://{host}\\@example.com/"),
    ];
    let odd = [
        format!("{scheme}://example.com@{host}/x"),
        format!("{scheme}://example.com:80@{host}/x"),
        format!("{scheme}://example.com%40{host}/x"),
        format!("{scheme}://example.com\\@{host}/x"),
        format!("{scheme}://{host}@127.0.0.1:{port}/x"),
        format!("{scheme}://@{host}/x"),
        format!("{scheme}://127.0.0.1%00.example.com:{port}/x"),
        format!("{scheme}://127.0.0.1%0d%0a:{port}/x"),
        format!("{scheme}://127.0.0.1%2fx:{port}/x"),
        format!("{scheme}://127.0.0.1:{port}:80/x"),
        format!("{scheme}://127.0.0.1:{}/x", u32::from(port) + 65_536),
        format!("{scheme}://127.0.0.1:-1/x"),
        format!("{scheme}://1.1.1.1 &@127.0.0.1:{port}# @example.com/"),
        format!("{scheme}://0x7f.0.0.0.1:{port}/x"),
        format!("{scheme}://127.0.0.256:{port}/x"),
        format!("{scheme}://4294967296:{port}/x"),
        format!("//{host}/x"),
        format!("{host}/x"),
        format!("ftp://{host}/x"),
        format!("gopher://{host}/_x"),
        format!("dict://{host}/x"),
        format!("ws://{host}/x"),
        format!("ldap://{host}/x"),
        format!("jar:{scheme}://{host}!/x"),
        "file:///etc/passwd".into(),
        "file://127.0.0.1/etc/passwd".into(),
        "data:text/plain,x".into(),
        "javascript:x".into(),
        "unix:/var/run/docker.sock".into(),
        String::new(),
    ];
    let plain = plain.into_iter().map(|url| Form { url, is_loopback: true });
    plain.chain(odd.into_iter().map(|url| Form { url, is_loopback: false })).collect()
}
