//! How [`StoredHeaders`] serialize: a map from field numbers to the fields that are present.
//!
//! Rows are positional, and a positional encoding can't skip absent fields; a map can. Numbers are
//! never reused; unknown ones are skipped, so that older readers take newer rows.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::StoredHeaders;

const CONTENT_TYPE: u8 = 1;
const CONTENT_ENCODING: u8 = 2;
const CONTENT_DISPOSITION: u8 = 3;
const CONTENT_LANGUAGE: u8 = 4;
const CACHE_CONTROL: u8 = 5;
const EXPIRES: u8 = 6;
const WEBSITE_REDIRECT: u8 = 7;
const USER: u8 = 8;

impl StoredHeaders {
    fn texts(&self) -> [(u8, &Option<String>); 7] {
        [
            (CONTENT_TYPE, &self.content_type),
            (CONTENT_ENCODING, &self.content_encoding),
            (CONTENT_DISPOSITION, &self.content_disposition),
            (CONTENT_LANGUAGE, &self.content_language),
            (CACHE_CONTROL, &self.cache_control),
            (EXPIRES, &self.expires),
            (WEBSITE_REDIRECT, &self.website_redirect),
        ]
    }
}

impl Serialize for StoredHeaders {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let present = self.texts().into_iter().filter_map(|(number, text)| Some((number, text.as_ref()?)));
        let user = usize::from(!self.user.is_empty());
        let mut map = s.serialize_map(Some(present.clone().count() + user))?;
        for (number, text) in present {
            map.serialize_entry(&number, text)?;
        }
        if !self.user.is_empty() {
            map.serialize_entry(&USER, &self.user)?;
        }
        map.end()
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = StoredHeaders;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map from field numbers to headers")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<StoredHeaders, A::Error> {
        let mut out = StoredHeaders::default();
        while let Some(number) = map.next_key::<u8>()? {
            let text = match number {
                CONTENT_TYPE => &mut out.content_type,
                CONTENT_ENCODING => &mut out.content_encoding,
                CONTENT_DISPOSITION => &mut out.content_disposition,
                CONTENT_LANGUAGE => &mut out.content_language,
                CACHE_CONTROL => &mut out.cache_control,
                EXPIRES => &mut out.expires,
                WEBSITE_REDIRECT => &mut out.website_redirect,
                USER => {
                    out.user = map.next_value::<BTreeMap<String, String>>()?;
                    continue;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            *text = Some(map.next_value()?);
        }
        Ok(out)
    }
}

impl<'de> Deserialize<'de> for StoredHeaders {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_map(Fields)
    }
}
