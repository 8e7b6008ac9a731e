// SPDX-License-Identifier: MIT OR Apache-2.0

//! Checks of the module's signature, and whether the kernel insists on one.

use super::{
    Check,
    child::output,
    module::Installed,
    root::{Root, program},
};
use std::fs;

/// The keys of DKMS, which it makes when it signs for the first time.
const KEY: &str = "/var/lib/dkms/mok.pub";
/// The variable of the firmware: four bytes of attributes, and the value.
const SECURE_BOOT: &str =
    "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";

/// Is the module signed, and by whom?
pub fn signature(root: &Root, installed: Option<&Installed>) -> Check {
    const NAME: &str = "signature";

    let object = installed.and_then(|installed| installed.object.as_ref().ok());
    // The kernel marks a module whose signature it did not accept.
    let tainted = root
        .text("/sys/module/zpipe/taint")
        .unwrap_or_default()
        .contains('E');
    let refused = if tainted {
        "; the kernel loaded zpipe without a valid signature"
    } else {
        ""
    };
    match object.map(|object| object.signer.as_deref()) {
        None => Check::unknown(
            NAME,
            format!("no module for this kernel to look at{refused}"),
        ),
        Some(None) => Check::warn(NAME, format!("the module is not signed{refused}")),
        Some(Some("")) => Check::warn(NAME, format!("signed by an unnamed key{refused}")),
        Some(Some(signer)) if tainted => Check::warn(NAME, format!("signed by {signer}{refused}")),
        Some(Some(signer)) => Check::ok(NAME, format!("signed by {signer}")),
    }
}

/// Returns true if Secure Boot is on. None if that is not known.
fn is_secure(root: &Root) -> Option<bool> {
    match fs::read(root.path(SECURE_BOOT)) {
        Ok(value) => value.get(4).map(|value| *value == 1),
        // The machine has no such firmware.
        Err(_) if root.has_sysfs() && !root.path("/sys/firmware/efi").exists() => Some(false),
        Err(_) => None,
    }
}

/// Why the kernel loads signed modules only. None if it does not, or if that is not known.
fn reason(root: &Root) -> Option<&'static str> {
    let lockdown = root
        .text("/sys/kernel/security/lockdown")
        .unwrap_or_default();
    let enforced = root
        .text("/sys/module/module/parameters/sig_enforce")
        .unwrap_or_default();
    if lockdown.contains("[integrity]") || lockdown.contains("[confidentiality]") {
        Some("lockdown")
    } else if enforced == "Y" {
        Some("module.sig_enforce")
    } else {
        None
    }
}

/// Returns true if the machine's owner has enrolled the key of DKMS. None if that is not known.
fn is_enrolled(root: &Root) -> Option<bool> {
    if !root.is_system() || !root.path(KEY).exists() {
        return None;
    }
    let arguments = ["--test-key".as_ref(), KEY.as_ref()];
    let (_, text) = output(&program("mokutil")?, &arguments, &[], libc::STDOUT_FILENO).ok()?;
    let text = String::from_utf8_lossy(&text);
    match text {
        _ if text.contains("is already enrolled") => Some(true),
        _ if text.contains("is not enrolled") => Some(false),
        _ => None,
    }
}

/// Does the kernel insist on signed modules, and does it know the key?
pub fn enforcement(root: &Root, installed: Option<&Installed>) -> Check {
    const NAME: &str = "secure boot";
    const ENROLL: &str = "run 'mokutil --import /var/lib/dkms/mok.pub' as root, reboot, and choose \
                          \"Enroll MOK\" in the blue menu";

    let is_secure = is_secure(root);
    let secure = match is_secure {
        Some(true) => "on",
        Some(false) => "off",
        None => "unknown",
    };
    let Some(reason) = reason(root) else {
        // Debian's kernel turns lockdown on with Secure Boot.
        let lockdown = root.text("/sys/kernel/security/lockdown");
        return if lockdown.is_ok() || is_secure == Some(false) {
            Check::ok(NAME, format!("{secure}; unsigned modules are accepted"))
        } else {
            Check::unknown(
                NAME,
                format!("Secure Boot is {secure}, and the state of lockdown is not known"),
            )
        };
    };
    let state = format!("Secure Boot is {secure}; only signed modules are accepted ({reason})");
    let object = installed.and_then(|installed| installed.object.as_ref().ok());
    let loaded = root.path("/sys/module/zpipe").is_dir();
    match object.map(|object| object.signer.as_deref()) {
        Some(None) => Check::bad(NAME, format!("{state}, and zpipe.ko is not signed"))
            .advise("install zpipe-dkms, which signs, or sign the module with a key of yours"),
        _ if loaded => Check::ok(NAME, format!("{state}; zpipe was")),
        _ => match is_enrolled(root) {
            Some(true) => Check::ok(NAME, format!("{state}; the key of DKMS is enrolled")),
            Some(false) => Check::bad(
                NAME,
                format!("{state}, and the key of DKMS is not enrolled"),
            )
            .advise(ENROLL),
            None => Check::unknown(
                NAME,
                format!("{state}; whether the key is enrolled is not known"),
            )
            .advise(format!(
                "install mokutil and run this again; to enroll the key of DKMS, {ENROLL}"
            )),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Health, object::Object, root::tests::Tree},
        *,
    };

    fn module(signer: Option<&str>) -> Installed {
        Installed {
            path: "/x".into(),
            object: Ok(Object {
                signer: signer.map(String::from),
                ..Object::default()
            }),
        }
    }

    #[test]
    fn signatures() {
        let tree = Tree::new("signature");
        let health = |module: Option<&Installed>| signature(&tree.root(), module).health;
        assert_eq!(health(None), Health::Unknown);
        assert_eq!(health(Some(&module(None))), Health::Warn);
        assert_eq!(health(Some(&module(Some("")))), Health::Warn);
        assert_eq!(health(Some(&module(Some("key")))), Health::Ok);
        tree.write("sys/module/zpipe/taint", "OE\n");
        assert_eq!(health(Some(&module(Some("key")))), Health::Warn);
    }

    #[test]
    fn kernels_that_insist() {
        let tree = Tree::new("enforcement");
        let check = |signer| enforcement(&tree.root(), Some(&module(signer)));
        assert_eq!(check(None).health, Health::Unknown);
        // A machine without EFI; one whose variables are not in view; and one with the variable.
        tree.write("sys/module/module/parameters/sig_enforce", "N\n");
        assert_eq!(check(None).health, Health::Ok);
        tree.write("sys/firmware/efi/fw_platform_size", "64\n");
        assert_eq!(check(None).health, Health::Unknown);
        tree.write(SECURE_BOOT.trim_start_matches('/'), [6, 0, 0, 0, 0]);
        assert_eq!(check(None).health, Health::Ok);
        tree.write(SECURE_BOOT.trim_start_matches('/'), [6, 0, 0, 0, 1]);
        assert_eq!(check(None).health, Health::Unknown);
        tree.write("sys/module/module/parameters/sig_enforce", "Y\n");
        assert_eq!(check(None).health, Health::Bad);
        let unknown = check(Some("key"));
        assert_eq!(unknown.health, Health::Unknown);
        assert!(unknown.found.contains("Secure Boot is on") && unknown.advice.contains("MOK"));
        tree.write("sys/module/zpipe/taint", "O\n");
        assert_eq!(check(Some("key")).health, Health::Ok);
    }
}
