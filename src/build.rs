//! Build script: link arguments of the binary. Packed relocations (DT_RELR) save 37 KB where the system can load such a binary:
//! in a native build on Linux with glibc 2.36 or newer. The small profile gets no table for backtraces, which saves 10 KB.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=src/build.rs");
    let var = |name: &str| env::var(name).unwrap_or_default();
    // The glibc version of another system is unknown.
    let is_native = var("HOST") == var("TARGET");
    let is_glibc = var("CARGO_CFG_TARGET_OS") == "linux" && var("CARGO_CFG_TARGET_ENV") == "gnu";
    // Without this feature only the library is built, and an embedding program is linked by its own build script.
    let has_binary = env::var_os("CARGO_FEATURE_SERVE").is_some();
    // A compiler that links passes on what follows `-Wl,`. lld itself, with which cross builds link, takes no such prefix.
    let prefix = match var("RUSTC_LINKER").ends_with("lld") {
        true => "",
        false => "-Wl,",
    };
    if has_binary && is_native && is_glibc && glibc_version() >= Some((2, 36)) {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
    // In the small profile, panics abort, and without symbols a backtrace shows little: 10 KB for a table that only backtraces
    // use. Debuggers do without that table.
    let is_small = matches!(var("OPT_LEVEL").as_str(), "s" | "z");
    if has_binary && is_small && var("CARGO_CFG_TARGET_OS") == "linux" {
        println!("cargo:rustc-link-arg-bins={prefix}--no-eh-frame-hdr");
    }
}

/// Returns the glibc version of this system, as major and minor number. Packed relocations need 2.36.
fn glibc_version() -> Option<(u32, u32)> {
    let output = Command::new("getconf")
        .arg("GNU_LIBC_VERSION")
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (major, minor) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
