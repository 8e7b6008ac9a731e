// SPDX-License-Identifier: MIT OR Apache-2.0

//! Checks of the kernel, and of the module for it.

use super::{
    Check,
    object::{Object, build_id},
    root::{Root, version},
};
use crate::module::LOAD_IT;
use std::{fs, io};

/// The series of the kernel that zpipe is tested with.
const SERIES: [(u32, u32); 2] = [(7, 2), (7, 3)];
/// The names of the module's file.
const FILES: [&str; 4] = ["zpipe.ko", "zpipe.ko.xz", "zpipe.ko.zst", "zpipe.ko.gz"];
/// Where modules from outside of the kernel are, in the order of modprobe(8).
const PLACES: [&str; 5] = ["updates/dkms", "updates", "extra", "weak-updates", "misc"];

const INSTALL_IT: &str = "install the package of modules for this kernel or zpipe-dkms, or run \
                          'make' in zpipe's source and load zpipe.ko";

/// The file of the module for the kernel that runs.
pub struct Installed {
    pub path: String,
    pub object: io::Result<Object>,
}

/// The file of the module below a directory of modules.
fn file_in(root: &Root, modules: &str) -> Option<String> {
    let mut paths = PLACES.iter().flat_map(|place| {
        FILES
            .iter()
            .map(move |file| format!("{modules}/{place}/{file}"))
    });
    paths.find(|path| root.path(path).is_file())
}

/// Looks for the module.
pub fn find(root: &Root, kernel: &str) -> Option<Installed> {
    let path = file_in(root, &format!("/lib/modules/{kernel}"))?;
    let object = Object::read(&root.path(&path));
    Some(Installed { path, object })
}

/// Is this a kernel that zpipe is for?
pub fn kernel(root: &Root, kernel: &str) -> Check {
    const NAME: &str = "kernel";

    let config = root
        .text(&format!("/boot/config-{kernel}"))
        .unwrap_or_default();
    if kernel.is_empty() {
        Check::unknown(NAME, "/proc/sys/kernel/osrelease cannot be read")
    } else if !config.is_empty() && !config.lines().any(|line| line == "CONFIG_RUST=y") {
        Check::bad(
            NAME,
            format!("{kernel} is built without Rust (CONFIG_RUST)"),
        )
        .advise("boot Debian's kernel of trixie-backports")
    } else if version(kernel).is_some_and(|version| SERIES.contains(&version)) {
        Check::ok(NAME, kernel)
    } else {
        let tested = SERIES.map(|(major, minor)| format!("{major}.{minor}"));
        Check::warn(NAME, format!("zpipe is not tested with {kernel}"))
            .advise(format!("boot Linux {}", tested.join(" or ")))
    }
}

/// What does DKMS know about zpipe?
pub fn dkms(root: &Root, kernel: &str) -> Check {
    const NAME: &str = "dkms";

    let dir = "/var/lib/dkms/zpipe";
    // Links to the builds in use are called kernel-RELEASE-ARCH.
    let names = root.names(dir);
    let versions: Vec<_> = names
        .iter()
        .filter(|name| !name.starts_with("kernel-") && *name != "original_module")
        .map(String::as_str)
        .collect();
    let built = names
        .iter()
        .any(|name| name.starts_with(&format!("kernel-{kernel}-")));
    match versions[..] {
        [] => Check::ok(NAME, "not used"),
        _ if built => Check::ok(
            NAME,
            format!("zpipe {}: built for this kernel", versions.join(" ")),
        ),
        _ => Check::warn(
            NAME,
            format!("zpipe {}: not built for this kernel", versions.join(" ")),
        )
        .advise(format!(
            "run 'dkms autoinstall -k {kernel}' as root; a failed build leaves \
                 {dir}/VERSION/build/make.log"
        )),
    }
}

/// Is there a module for this kernel?
pub fn installed(root: &Root, kernel: &str, installed: Option<&Installed>) -> Check {
    const NAME: &str = "module";

    let Some(installed) = installed else {
        let others: Vec<_> = root
            .names("/lib/modules")
            .into_iter()
            .filter(|name| file_in(root, &format!("/lib/modules/{name}")).is_some())
            .collect();
        let mut found = format!("/lib/modules/{kernel} has no zpipe.ko");
        if !others.is_empty() {
            found.push_str(&format!(", but there is one for {}", others.join(", ")));
        }
        return Check::bad(NAME, found).advise(INSTALL_IT);
    };
    let path = &installed.path;
    match &installed.object {
        Err(error) => Check::unknown(NAME, format!("{path}: {error}")),
        Ok(object) => match &object.kernel {
            Some(other) if other != kernel => {
                Check::bad(NAME, format!("{path} is for kernel {other}")).advise(INSTALL_IT)
            }
            None => Check::bad(NAME, format!("{path} is no kernel module")).advise(INSTALL_IT),
            Some(_) => {
                let version = object.version.as_ref();
                let version = version.map_or(String::new(), |version| format!(", {version}"));
                Check::ok(NAME, format!("{path}{version}"))
            }
        },
    }
}

/// Is the module loaded?
pub fn loaded(root: &Root) -> Check {
    const NAME: &str = "loaded";

    if root.path("/sys/module/zpipe").is_dir() {
        Check::ok(NAME, "the module is loaded")
    } else if root.has_sysfs() || !root.is_system() {
        Check::bad(NAME, "the module is not loaded").advise(LOAD_IT)
    } else {
        Check::unknown(NAME, "/sys is not mounted")
    }
}

/// Is it the one that is installed?
pub fn matches(root: &Root, installed: Option<&Installed>) -> Check {
    const NAME: &str = "match";

    let note = fs::read(root.path("/sys/module/zpipe/notes/.note.gnu.build-id"));
    let Some(loaded) = note.ok().and_then(|note| build_id(&note)) else {
        return Check::unknown(NAME, "no loaded module to compare with");
    };
    let object = installed.and_then(|installed| installed.object.as_ref().ok());
    match object.and_then(|object| object.build_id.as_ref()) {
        None => Check::unknown(NAME, format!("build {loaded} is loaded, and no installed one is known")),
        Some(file) if *file == loaded => {
            Check::ok(NAME, format!("build {loaded} is loaded and installed"))
        }
        Some(file) => Check::bad(NAME, format!("build {loaded} is loaded, but {file} is installed"))
            .advise("run 'modprobe -r zpipe' and 'modprobe zpipe' as root, or reboot; 'zpipe ls' shows who uses the loaded one"),
    }
}
