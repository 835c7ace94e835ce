//! Blocks of IP addresses, as allowlists and trusted proxies name them.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};
use schemars::JsonSchema;
use schemars::r#gen::SchemaGenerator;
use schemars::schema::{InstanceType, Schema, SchemaObject};
use serde::{Deserialize, Serialize};

/// Bits before the IPv4 address in an IPv4-mapped IPv6 address
/// (RFC 4291 section 2.5.5.2).
const MAPPED: u8 = 96;

/// A block of addresses in CIDR notation (RFC 4632, RFC 4291 section 2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr(IpNet);

impl Cidr {
    /// Whether the address is in the block. An IPv4-mapped IPv6 address is
    /// the IPv4 address in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl FromStr for Cidr {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let block: IpNet = text
            .parse()
            .map_err(|_| "a block of addresses such as 192.0.2.0/24 or 2001:db8::1/128")?;
        // Addresses are compared in their canonical form, and so are blocks.
        let IpNet::V6(wide) = block else { return Ok(Self(block)) };
        let canonical = match wide.addr().to_ipv4_mapped() {
            Some(address) if wide.prefix_len() >= MAPPED => {
                Ipv4Net::new(address, wide.prefix_len() - MAPPED).map_or(block, IpNet::V4)
            }
            _ => block,
        };
        Ok(Self(canonical))
    }
}

impl TryFrom<String> for Cidr {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(block: Cidr) -> Self {
        block.0.to_string()
    }
}

impl JsonSchema for Cidr {
    fn schema_name() -> String {
        "Cidr".into()
    }

    fn is_referenceable() -> bool {
        false
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        Schema::Object(SchemaObject {
            instance_type: Some(InstanceType::String.into()),
            format: Some("cidr".into()),
            ..SchemaObject::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(block: &str, address: &str) -> bool {
        block.parse::<Cidr>().unwrap().contains(address.parse().unwrap())
    }

    #[test]
    fn a_block_holds_its_addresses_in_either_form_and_no_others() {
        for (block, address, expected) in [
            ("192.0.2.0/24", "192.0.2.255", true),
            ("192.0.2.0/24", "192.0.3.0", false),
            ("192.0.2.7/24", "192.0.2.1", true),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("192.0.2.0/24", "::ffff:192.0.2.9", true),
            ("::ffff:192.0.2.0/120", "192.0.2.9", true),
            ("::ffff:192.0.2.0/120", "192.0.3.9", false),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::/0", "192.0.2.1", false),
        ] {
            assert_eq!(holds(block, address), expected, "{address} in {block}");
        }
    }

    #[test]
    fn what_is_no_block_is_refused() {
        for text in ["", "192.0.2.1", "192.0.2.0/33", "192.0.2/24", "::/129", "x/8", "10.0.0.0/-1"]
        {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
    }
}
