//! Puts the versions and delete markers of a listing into the order of their keys.
//!
//! S3's schema has a list of each, which s3s writes one behind the other. S3 itself mixes them, and
//! clients that read the document front to back rely on that order.

use http::Response;
use s3s::Body;

const MARKER: (&str, &str) = ("<DeleteMarker>", "</DeleteMarker>");
const VERSION: (&str, &str) = ("<Version>", "</Version>");

/// Of each entry of a listing, in order, whether it is a delete marker. Travels beside the answer.
#[derive(Clone, Debug)]
pub(crate) struct VersionOrder(pub(crate) Vec<bool>);

/// Reorders the document of an answer that carries a [`VersionOrder`].
pub(super) fn restore(mut response: Response<Body>) -> Response<Body> {
    let Some(VersionOrder(order)) = response.extensions_mut().remove::<VersionOrder>() else { return response };
    let (parts, body) = response.into_parts();
    let bytes = body.bytes().unwrap_or_default();
    let mixed = std::str::from_utf8(&bytes).ok().and_then(|text| interleave(text, &order));
    Response::from_parts(parts, mixed.map_or(Body::from(bytes), Body::from))
}

/// The document with its entries in this order; `None` if it has others than `order` says.
fn interleave(text: &str, order: &[bool]) -> Option<String> {
    let (rest, mut markers) = cut_out(text, MARKER)?;
    let (rest, mut versions) = cut_out(&rest, VERSION)?;
    let end = rest.rfind("</")?;
    let mut mixed = String::with_capacity(text.len());
    mixed.push_str(rest.get(..end)?);
    for marker in order {
        mixed.push_str(if *marker { markers.next()? } else { versions.next()? });
    }
    if markers.next().is_some() || versions.next().is_some() {
        return None;
    }
    mixed.push_str(rest.get(end..)?);
    Some(mixed)
}

/// Takes the one run of elements with these tags out of a document. Text holds no `<`, so the tags
/// can't be anything else.
fn cut_out<'a>(text: &'a str, (open, close): (&str, &'static str)) -> Option<(String, impl Iterator<Item = &'a str>)> {
    let first = text.find(open).unwrap_or(text.len());
    let end = text.rfind(close).map_or(first, |at| at + close.len());
    let run = text.get(first..end)?;
    let rest = [text.get(..first)?, text.get(end..)?].concat();
    Some((rest, run.split_inclusive(close)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_take_the_order_of_the_listing() {
        let text = "<R><DeleteMarker>1</DeleteMarker><DeleteMarker>4</DeleteMarker><Name>b</Name>\
                    <Version>2</Version><Version>3</Version></R>";
        let mixed = interleave(text, &[true, false, false, true]).unwrap();
        assert_eq!(
            mixed,
            "<R><Name>b</Name><DeleteMarker>1</DeleteMarker><Version>2</Version><Version>3</Version>\
             <DeleteMarker>4</DeleteMarker></R>"
        );
        assert_eq!(interleave("<R><Name>b</Name></R>", &[]).unwrap(), "<R><Name>b</Name></R>");
        assert_eq!(interleave("<R><Version>2</Version></R>", &[false]).unwrap(), "<R><Version>2</Version></R>");
        for wrong in [&[true][..], &[true, false, false], &[true, false, false, true, true], &[false; 4]] {
            assert_eq!(interleave(text, wrong), None, "{wrong:?}");
        }
    }
}
