//! Where tiles and entry bundles stand: `tile/<L>/<N>[.p/<W>]` and `tile/entries/<N>[.p/<W>]`.

use std::fmt;

use crate::tiles::TILE_WIDTH;

/// Highest level of a tile.
const LEVEL_MAX: u8 = 63;

/// One tile or one entry bundle, whole or partial.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TilePath {
    /// Level of a tile; `None`: the bundle of entries below the tile at level 0.
    pub level: Option<u8>,
    /// Index among the tiles of the level.
    pub index: u64,
    /// Hashes or entries, 1 to [`TILE_WIDTH`].
    pub width: usize,
}

impl TilePath {
    /// A tile of a tree of `size` leaves, as wide as it is there; `None` if the tree has no such tile.
    pub fn of(size: u64, level: Option<u8>, index: u64) -> Option<Self> {
        let hashes = size.checked_shr(8 * u32::from(level.unwrap_or(0))).unwrap_or(0);
        let left = hashes.checked_sub(index.checked_mul(TILE_WIDTH as u64)?)?;
        let width = usize::try_from(left).unwrap_or(TILE_WIDTH).min(TILE_WIDTH);
        (width > 0).then_some(Self { level, index, width })
    }

    /// The same tile once it is full.
    #[must_use]
    pub fn full(self) -> Self {
        Self { width: TILE_WIDTH, ..self }
    }

    /// Reads a path. There is one way to write each: no other leading zeros than the three-digit
    /// groups have, and no width for a full tile.
    pub fn parse(path: &str) -> Option<Self> {
        let rest = path.strip_prefix("tile/")?;
        let (level, rest) = rest.split_once('/')?;
        let level = if level == "entries" { None } else { Some(parse_level(level)?) };
        let (groups, width) = match rest.split_once(".p/") {
            Some((groups, width)) => (groups, parse_width(width)?),
            None => (rest, TILE_WIDTH),
        };
        let found = Self { level, index: parse_index(groups)?, width };
        // Printing it again catches what the parts let pass, such as a group of zeros in front.
        (found.to_string() == path).then_some(found)
    }
}

impl fmt::Display for TilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.level {
            Some(level) => write!(f, "tile/{level}/")?,
            None => f.write_str("tile/entries/")?,
        }
        let mut groups = vec![format!("{:03}", self.index % 1000)];
        let mut rest = self.index / 1000;
        while rest > 0 {
            groups.push(format!("x{:03}", rest % 1000));
            rest /= 1000;
        }
        groups.reverse();
        f.write_str(&groups.join("/"))?;
        if self.width < TILE_WIDTH { write!(f, ".p/{}", self.width) } else { Ok(()) }
    }
}

fn parse_level(text: &str) -> Option<u8> {
    let level = crate::lines::parse_decimal(text.as_bytes())?;
    u8::try_from(level).ok().filter(|level| *level <= LEVEL_MAX)
}

fn parse_width(text: &str) -> Option<usize> {
    let width = usize::try_from(crate::lines::parse_decimal(text.as_bytes())?).ok()?;
    (1..TILE_WIDTH).contains(&width).then_some(width)
}

fn parse_index(groups: &str) -> Option<u64> {
    let mut index = 0u64;
    let mut groups = groups.split('/').peekable();
    while let Some(group) = groups.next() {
        let digits = if groups.peek().is_some() { group.strip_prefix('x')? } else { group };
        let [a, b, c] = digits.as_bytes() else { return None };
        for digit in [a, b, c] {
            let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
            index = index.checked_mul(10)?.checked_add(digit)?;
        }
    }
    Some(index)
}

#[cfg(test)]
mod tests {
    #[test]
    fn tiles_are_as_wide_as_the_tree_has_them() {
        let of = |size, level, index| TilePath::of(size, level, index).map(|tile| tile.to_string());
        assert_eq!(of(70_000, Some(0), 273).as_deref(), Some("tile/0/273.p/112"));
        assert_eq!(of(70_000, Some(1), 1).as_deref(), Some("tile/1/001.p/17"));
        assert_eq!(of(70_000, None, 0).as_deref(), Some("tile/entries/000"));
        assert_eq!(
            of(256, Some(1), 0).map(|path| TilePath::parse(&path).unwrap().full().to_string()).unwrap(),
            "tile/1/000"
        );
        for (size, level, index) in
            [(0, Some(0), 0), (256, Some(0), 1), (255, Some(1), 0), (9, Some(63), 0), (9, None, u64::MAX)]
        {
            assert_eq!(of(size, level, index), None);
        }
    }

    use super::*;

    #[test]
    fn paths_of_the_specification() {
        for (path, level, index, width) in [
            ("tile/0/x001/x234/067", Some(0), 1_234_067, 256),
            ("tile/1/000.p/17", Some(1), 0, 17),
            ("tile/63/000.p/1", Some(63), 0, 1),
            ("tile/entries/x001/x234/067.p/255", None, 1_234_067, 255),
            ("tile/entries/000", None, 0, 256),
            ("tile/0/x018/x446/x744/x073/x709/x551/615", Some(0), u64::MAX, 256),
        ] {
            let expected = TilePath { level, index, width };
            assert_eq!(TilePath::parse(path), Some(expected), "{path}");
            assert_eq!(expected.to_string(), path);
        }
    }

    #[test]
    fn there_is_no_other_way_to_write_one() {
        for path in [
            "",
            "tile",
            "tile/",
            "tile/0",
            "tile/0/",
            "/tile/0/000",
            "tile/0/000/",
            "tile//000",
            "tile/00/000",
            "tile/64/000",
            "tile/+0/000",
            "tile/-1/000",
            "tile/data/000",
            "tile/0/0",
            "tile/0/0000",
            "tile/0/x000",
            "tile/0/x000/001",
            "tile/0/001/001",
            "tile/0/x01/001",
            "tile/0/x1234/067",
            "tile/0/X001/067",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/01",
            "tile/0/000.p/",
            "tile/0/000.p",
            "tile/0/000.p/+1",
            "tile/0/000.p/1/",
            "tile/0/0a0",
            "tile/0/../000",
            "tile/0/x018/x446/x744/x073/x709/x551/616",
            "tile/entries/",
            "tile/entries/000.p/256",
            "tile/0/٠٠٠",
        ] {
            assert_eq!(TilePath::parse(path), None, "{path}");
        }
    }

    proptest::proptest! {
        #[test]
        fn printed_paths_parse(level in proptest::option::of(0u8..=63), index: u64, width in 1usize..=256) {
            let path = TilePath { level, index, width };
            proptest::prop_assert_eq!(TilePath::parse(&path.to_string()), Some(path));
        }
    }
}
