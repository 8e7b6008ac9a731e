// SPDX-License-Identifier: MIT OR Apache-2.0

//! The file of a kernel module: what it says about itself, and its signature.

use super::{child::output, root::program};
use std::{fs, io, path::Path};

/// The end of a signed module.
const MARK: &[u8] = b"~Module signature appended~\n";

/// What matters of the file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Object {
    pub version: Option<String>,
    /// The identifier of this build, in hexadecimal digits.
    pub build_id: Option<String>,
    /// The kernel that it was built for.
    pub kernel: Option<String>,
    /// The name of the signing key. Nothing if the signature does not have it.
    pub signer: Option<String>,
}

/// Returns the value behind `name=` in the section .modinfo, which has strings that end with zero.
fn entry(bytes: &[u8], name: &str) -> Option<String> {
    let name = format!("\0{name}=");
    let start = bytes
        .windows(name.len())
        .position(|part| part == name.as_bytes())?
        + name.len();
    let len = bytes[start..].iter().position(|byte| *byte == 0)?;
    Some(String::from_utf8_lossy(&bytes[start..start + len]).into_owned())
}

/// Returns the identifier of a build from its note, which is in a file or alone.
pub fn build_id(bytes: &[u8]) -> Option<String> {
    /// The lengths of the name and of the identifier, the type, and the name.
    const NOTE: &[u8] = b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0";

    let at = bytes.windows(NOTE.len()).position(|part| part == NOTE)? + NOTE.len();
    let id = bytes.get(at..at + 20)?;
    Some(
        id.iter()
            .fold(String::new(), |text, byte| format!("{text}{byte:02x}")),
    )
}

/// Returns the last common name of a signature in DER: the name of its key.
fn common_name(signature: &[u8]) -> Option<String> {
    /// The object identifier 2.5.4.3.
    const NAME: [u8; 5] = [0x06, 0x03, 0x55, 0x04, 0x03];

    let at = signature
        .windows(NAME.len())
        .rposition(|part| part == NAME)?
        + NAME.len();
    // The type of a string, and its length.
    let len = usize::from(*signature.get(at + 1)?);
    let name = signature.get(at + 2..at + 2 + len)?;
    Some(String::from_utf8_lossy(name).into_owned())
}

impl Object {
    /// Finds out what the bytes of a module say. None in `signer` is a module without signature.
    fn parse(bytes: &[u8]) -> Self {
        let signer = bytes.strip_suffix(MARK).map(|rest| {
            // Twelve bytes with the length at their end, and the signature before them.
            let (rest, info) = rest.split_at(rest.len().saturating_sub(12));
            let len = info
                .last_chunk()
                .map_or(0, |len| u32::from_be_bytes(*len) as usize);
            let signature = &rest[rest.len().saturating_sub(len)..];
            common_name(signature).unwrap_or_default()
        });
        let magic = entry(bytes, "vermagic");
        Self {
            version: entry(bytes, "version"),
            build_id: build_id(bytes),
            kernel: magic.and_then(|magic| Some(magic.split(' ').next()?.into())),
            signer,
        }
    }

    /// Reads a file, which may be compressed.
    pub fn read(path: &Path) -> io::Result<Self> {
        let tool = match path.extension().and_then(|end| end.to_str()) {
            Some("xz") => "xz",
            Some("zst") => "zstd",
            Some("gz") => "gzip",
            _ => return Ok(Self::parse(&fs::read(path)?)),
        };
        let missing = || io::Error::other(format!("{tool} is not installed"));
        let tool = program(tool).ok_or_else(missing)?;
        let (done, bytes) = output(&tool, &["-dc".as_ref(), path], &[], libc::STDOUT_FILENO)
            .map_err(|error| io::Error::from_raw_os_error(error.0))?;
        if !done {
            return Err(io::Error::other("it cannot be decompressed"));
        }
        Ok(Self::parse(&bytes))
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub const UNSIGNED: &[u8] = b"\x7fELF\0version=0.1.0\0\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0\
        ABCDEFGHIJKLMNOPQRST\0vermagic=7.3.4+deb13-amd64 SMP\0rest";
    /// The note of the same build.
    pub const NOTE: &[u8] = b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0ABCDEFGHIJKLMNOPQRST";
    /// A signature of 18 bytes, of which the first two do not matter.
    pub const SIGNED: &[u8] = b"\x7fELF\0version=0.1.0\0\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0\
        ABCDEFGHIJKLMNOPQRST\0vermagic=7.3.4+deb13-amd64 SMP\0rest\
        \x30\x10\x06\x03\x55\x04\x03\x0c\x08DKMS key\x30\
        \0\0\x02\0\0\0\0\0\0\0\0\x12~Module signature appended~\n";

    #[test]
    fn what_a_module_says() {
        let object = Object::parse(UNSIGNED);
        assert_eq!(object.version.as_deref(), Some("0.1.0"));
        let id = object.build_id.unwrap();
        assert!(id.starts_with("4142") && id.len() == 40);
        assert_eq!(build_id(NOTE), Some(id));
        assert_eq!(build_id(&NOTE[1..]), None);
        assert_eq!(object.kernel.as_deref(), Some("7.3.4+deb13-amd64"));
        assert_eq!(object.signer, None);
        assert_eq!(Object::parse(SIGNED).signer.as_deref(), Some("DKMS key"));
        assert_eq!(Object::parse(MARK).signer.as_deref(), Some(""));
        assert_eq!(Object::parse(b""), Object::default());
    }

    #[test]
    fn files_that_cannot_be_read() {
        assert!(Object::read(Path::new("/nonexistent/zpipe.ko")).is_err());
        assert!(Object::read(Path::new("/nonexistent/zpipe.ko.gz")).is_err());
    }
}
