//! Values that documents hold as text.

/// Addresses, in their EIP-55 form.
pub(super) mod addresses {
    use lookout_types::Address;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(in crate::document) fn serialize<S: Serializer>(
        addresses: &[Address],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(addresses.iter().map(ToString::to_string))
    }

    pub(in crate::document) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<Address>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        let parsed = texts.iter().map(|text| {
            text.parse().map_err(|error| {
                let shown: String = text.chars().take(60).collect();
                D::Error::custom(format!("`{shown}` is not an address: {error}"))
            })
        });
        parsed.collect()
    }
}

/// Named sets of addresses. Lowercase: a set of ten thousand is written with every version, and the
/// checksum costs a hash each.
pub(super) mod labels {
    use std::collections::BTreeMap;

    use lookout_types::Address;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(in crate::document) fn serialize<S: Serializer>(
        labels: &BTreeMap<String, Vec<Address>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let texts = |set: &Vec<Address>| set.iter().map(|a| format!("{a:x}")).collect::<Vec<_>>();
        serializer.collect_map(labels.iter().map(|(name, set)| (name, texts(set))))
    }

    pub(in crate::document) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<String, Vec<Address>>, D::Error> {
        let texts = BTreeMap::<String, Vec<String>>::deserialize(deserializer)?;
        let sets = texts.into_iter().map(|(name, set)| {
            let set = set.iter().map(|text| text.parse().map_err(D::Error::custom));
            Ok((name, set.collect::<Result<_, _>>()?))
        });
        sets.collect()
    }
}
