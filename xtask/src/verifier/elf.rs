//! What an ELF file of 64 bits needs of the machine: a loader, libraries.

use anyhow::{Context as _, Result, ensure};

const LOAD: u32 = 1;
const DYNAMIC: u32 = 2;
const INTERPRETER: u32 = 3;
/// A library, in the dynamic section.
const NEEDED: u64 = 1;

/// Everything it needs, in words; nothing if it is static.
///
/// # Errors
/// If the bytes are no such file.
pub(super) fn needs(bytes: &[u8]) -> Result<Vec<String>> {
    ensure!(bytes.starts_with(b"\x7fELF\x02\x01"), "no ELF file of 64 bits, little endian");
    let (table, size, count) = (number(bytes, 32, 8)?, number(bytes, 54, 2)?, number(bytes, 56, 2)?);
    let (mut needs, mut loads) = (Vec::new(), 0);
    for at in 0..count {
        let header = table.checked_add(at * size).context("headers beyond any file")?;
        match u32::try_from(number(bytes, header, 4)?)? {
            LOAD => loads += 1,
            INTERPRETER => needs.push("a loader".to_owned()),
            DYNAMIC => {
                let field = |offset: u64| number(bytes, header.saturating_add(offset), 8);
                needs.extend(libraries(bytes, field(8)?, field(32)?)?);
            }
            _ => {}
        }
    }
    ensure!(loads > 0, "nothing in it is loaded, so it is no program");
    Ok(needs)
}

fn libraries(bytes: &[u8], start: u64, len: u64) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for at in 0..len / 16 {
        if number(bytes, start.saturating_add(at * 16), 8)? == NEEDED {
            found.push("a library".to_owned());
        }
    }
    Ok(found)
}

/// `len` bytes as a number.
fn number(bytes: &[u8], at: u64, len: usize) -> Result<u64> {
    let start = usize::try_from(at)?;
    let part = start.checked_add(len).and_then(|end| bytes.get(start..end)).context("the file is cut short")?;
    Ok(part.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_of_this_machine_needs_its_loader_and_libraries() {
        let us = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let needs = needs(&us).unwrap();
        assert!(needs.contains(&"a loader".to_owned()) && needs.contains(&"a library".to_owned()), "{needs:?}");
        assert!(super::needs(&us[..100]).is_err());
        assert!(super::needs(b"#!/bin/sh\n").is_err());
    }
}
