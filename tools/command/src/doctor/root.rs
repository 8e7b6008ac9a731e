// SPDX-License-Identifier: MIT OR Apache-2.0

//! The files of the machine: below /, or for tests below another directory.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The root directory.
pub struct Root(Option<PathBuf>);

impl Root {
    pub fn new(dir: Option<PathBuf>) -> Self {
        Self(dir)
    }

    /// True if this is the machine itself, so that commands and devices can be tried.
    pub fn is_system(&self) -> bool {
        self.0.is_none()
    }

    /// Returns the place of an absolute path.
    pub fn path(&self, path: &str) -> PathBuf {
        match &self.0 {
            None => path.into(),
            Some(dir) => dir.join(path.trim_start_matches('/')),
        }
    }

    /// Reads a short text without white space around it.
    pub fn text(&self, path: &str) -> io::Result<String> {
        Ok(fs::read_to_string(self.path(path))?.trim().into())
    }

    /// The version of the kernel that runs.
    pub fn kernel(&self) -> String {
        self.text("/proc/sys/kernel/osrelease").unwrap_or_default()
    }

    /// True if the files of sysfs are there, so that one that is missing has a meaning.
    pub fn has_sysfs(&self) -> bool {
        self.path("/sys/module").is_dir()
    }

    /// The names in a directory, sorted. None if there is no such directory.
    pub fn names(&self, dir: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(dir)).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

/// Returns the major and minor version of a kernel's release, such as (7, 3) of "7.3-rc1".
pub fn version(release: &str) -> Option<(u32, u32)> {
    let (major, rest) = release.split_once('.')?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    Some((major.parse().ok()?, rest[..digits].parse().ok()?))
}

/// Returns the path of a program that a user would find.
pub fn program(name: &str) -> Option<PathBuf> {
    let usual = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"];
    let places = usual.iter().map(|dir| Path::new(dir).join(name));
    places.into_iter().find(|path| path.is_file())
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A directory with the files of a machine, which is removed at the end.
    pub struct Tree(PathBuf);

    impl Tree {
        pub fn new(name: &str) -> Self {
            let name = format!("zpipe-doctor-{name}-{}", std::process::id());
            let tree = Self(std::env::temp_dir().join(name));
            fs::create_dir(&tree.0).unwrap();
            tree
        }

        pub fn root(&self) -> Root {
            Root::new(Some(self.0.clone()))
        }

        pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn versions_of_kernels() {
        assert_eq!(version("7.3.4+deb13-amd64"), Some((7, 3)));
        assert_eq!(version("7.30.1"), Some((7, 30)));
        assert_eq!(version("7.3-rc1"), Some((7, 3)));
        assert_eq!(version("10.0"), Some((10, 0)));
        for none in ["", "7", "7.", "x.3", "7.x"] {
            assert_eq!(version(none), None, "{none}");
        }
    }

    #[test]
    fn files_below_a_root() {
        let tree = Tree::new("root");
        tree.write("a/b", " x \n");
        tree.write("a/a", "");
        let root = tree.root();
        assert_eq!(root.text("/a/b").unwrap(), "x");
        assert_eq!(root.names("/a"), ["a", "b"]);
        assert_eq!(root.names("/nothing"), [""; 0]);
        assert!(!root.is_system() && Root::new(None).is_system());
        assert!(program("env").is_some() && program("no such program").is_none());
    }
}
