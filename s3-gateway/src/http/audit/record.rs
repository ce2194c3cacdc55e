//! What a line of the audit log says. Pure: values in, one line of JSON out.

use serde::Serialize;
use stele_types::seam::UnixMillis;
use time::OffsetDateTime;
use time::macros::format_description;

/// Longest user agent that is kept, bytes.
pub const USER_AGENT_BYTES_MAX: usize = 256;
/// Longest request path that is kept where the request was refused before it became an operation, bytes.
pub const TARGET_BYTES_MAX: usize = 1024;
/// Longest version id, error code and access key that are kept, bytes.
pub const WORD_BYTES_MAX: usize = 128;

/// One request. Fields that nobody knows are `null`; of the last ones those that don't apply are left out.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Record {
    /// When the request's header had arrived: RFC 3339, UTC, milliseconds.
    pub time: String,
    /// As in `x-amz-request-id`.
    pub request_id: String,
    /// Name of the S3 operation as it was routed; `null` if the request was refused before that.
    pub operation: Option<String>,
    /// Access key whose signature was verified; `null` if none was.
    pub principal: Option<String>,
    /// Address and port of the connection's other end.
    pub remote: String,
    /// Bucket of the operation.
    pub bucket: Option<String>,
    /// Key of the operation.
    pub key: Option<String>,
    /// HTTP status; `null` if the client left before there was one.
    pub status: Option<u16>,
    /// S3 error code, where the answer has one.
    pub error: Option<String>,
    /// Bytes of the request's body that were read.
    pub bytes_in: u64,
    /// Bytes of the answer's body that were handed to the connection.
    pub bytes_out: u64,
    /// From the request's header to the answer's last byte, microseconds.
    pub duration_us: u64,
    /// The whole answer was handed to the connection.
    pub complete: bool,
    /// Beginning of the client's own description.
    pub user_agent: Option<String>,
    /// HTTP method; only without `operation`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Path without the query; only without `operation`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Access key that the request named but did not prove; only of keys that exist.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claimed: Option<String>,
    /// Version that was asked for or made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version_id: Option<String>,
    /// Evidence log and index of the entry of the version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// Object root of the version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object_root: Option<String>,
    /// TLS version, as `TLSv1.3`; absent without TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<String>,
}

/// One key of a bulk deletion; its line follows at once on that of its request, or stands before it.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Item {
    /// As in [`Record`].
    pub time: String,
    /// As in [`Record`].
    pub request_id: String,
    /// Always `DeleteObjects.Item`.
    pub operation: &'static str,
    /// As in [`Record`].
    pub principal: Option<String>,
    /// As in [`Record`].
    pub remote: String,
    /// As in [`Record`].
    pub bucket: Option<String>,
    /// The key.
    pub key: String,
    /// Version that was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version_id: Option<String>,
    /// S3 error code; `null` if the key was deleted.
    pub error: Option<String>,
    /// As in [`Record`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
}

/// Says that lines are missing here.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Lost {
    /// When the loss was noticed by the writer.
    pub time: String,
    /// Always `AuditLinesLost`.
    pub operation: &'static str,
    /// How many.
    pub lines: u64,
}

impl Lost {
    /// The line for `lines` lost ones.
    pub fn new(now: UnixMillis, lines: u64) -> Self {
        Self { time: rfc3339(now), operation: "AuditLinesLost", lines }
    }
}

/// One line of JSON, line feed included. Control characters in texts are escaped, so there is no other.
pub fn line(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(value).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

/// RFC 3339 in UTC with milliseconds; the end of the year 9999 for what is later.
pub fn rfc3339(at: UnixMillis) -> String {
    const LAST: UnixMillis = 253_402_300_799_999;
    let at = i128::from(at.min(LAST)) * 1_000_000;
    let form = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    OffsetDateTime::from_unix_timestamp_nanos(at).ok().and_then(|at| at.format(form).ok()).unwrap_or_default()
}

/// The beginning of some bytes as text: at most `most` bytes, what is not UTF-8 replaced.
pub fn clip(bytes: &[u8], most: usize) -> String {
    let mut text = String::from_utf8_lossy(bytes.get(..most).unwrap_or(bytes)).into_owned();
    // Replacement characters are longer than what they stand for.
    text.truncate(text.floor_char_boundary(most));
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn example() -> Record {
        Record {
            time: rfc3339(1_700_000_000_123),
            request_id: "00000000000000AF".into(),
            operation: Some("PutObject".into()),
            principal: Some("root".into()),
            remote: "192.0.2.1:4711".into(),
            bucket: Some("b".into()),
            key: Some("a\nb\"\u{1}ü".into()),
            status: Some(200),
            bytes_in: 5,
            duration_us: 1234,
            complete: true,
            user_agent: Some("aws-cli/2".into()),
            version_id: Some("null".into()),
            log: Some("0/17".into()),
            object_root: Some("ab".into()),
            ..Record::default()
        }
    }

    #[test]
    fn golden_line() {
        let text = String::from_utf8(line(&example())).unwrap();
        let expected = concat!(
            r#"{"time":"2023-11-14T22:13:20.123Z","request_id":"00000000000000AF","operation":"PutObject","#,
            r#""principal":"root","remote":"192.0.2.1:4711","bucket":"b","key":"a\nb\"\u0001ü","status":200,"#,
            r#""error":null,"bytes_in":5,"bytes_out":0,"duration_us":1234,"complete":true,"user_agent":"aws-cli/2","#,
            r#""version_id":"null","log":"0/17","object_root":"ab"}"#,
            "\n"
        );
        assert_eq!(text, expected);
        let lost = String::from_utf8(line(&Lost::new(0, 3))).unwrap();
        assert_eq!(lost, "{\"time\":\"1970-01-01T00:00:00.000Z\",\"operation\":\"AuditLinesLost\",\"lines\":3}\n");
    }

    #[test]
    fn times_at_the_edges_are_written() {
        assert_eq!(rfc3339(u64::MAX), "9999-12-31T23:59:59.999Z");
        assert_eq!(rfc3339(1), "1970-01-01T00:00:00.001Z");
    }

    proptest! {
        #[test]
        fn any_bytes_make_one_line_of_json(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 4), number in any::<u64>()) {
            let record = Record {
                time: rfc3339(number),
                principal: Some(clip(&parts[0], 128)),
                key: Some(clip(&parts[1], 1024)),
                user_agent: Some(clip(&parts[2], USER_AGENT_BYTES_MAX)),
                target: Some(clip(&parts[3], TARGET_BYTES_MAX)),
                bytes_in: number,
                ..Record::default()
            };
            let bytes = line(&record);
            prop_assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), 1);
            prop_assert_eq!(bytes.last(), Some(&b'\n'));
            let read: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            prop_assert_eq!(read["key"].as_str(), record.key.as_deref());
            prop_assert_eq!(read["user_agent"].as_str(), record.user_agent.as_deref());
            prop_assert_eq!(read["bytes_in"].as_u64(), Some(number));
            prop_assert!(record.user_agent.unwrap_or_default().len() <= USER_AGENT_BYTES_MAX);
        }
    }
}
