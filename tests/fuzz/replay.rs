//! Runs the fuzz targets on files: `replay` on the whole corpus, `replay TARGET FILE...` on these files. If a target
//! panics, the program prints the name of the file and exits with the panic.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use wsloop_fuzz::TARGETS;

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    let Some(name) = words.next() else {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
        for (name, target) in TARGETS {
            let start = Instant::now();
            let files = files_in(&corpus.join(name));
            assert!(!files.is_empty(), "no corpus for {name}");
            files.iter().for_each(|file| replay(name, target, file));
            println!("{name}: {} files, {:.1?}", files.len(), start.elapsed());
        }
        return ExitCode::SUCCESS;
    };
    let Some((name, target)) = TARGETS.into_iter().find(|(target, _)| name == *target) else {
        eprintln!("unknown fuzz target: {}", name.display());
        return ExitCode::FAILURE;
    };
    for file in words.map(|word: OsString| PathBuf::from(word)) {
        println!("{}", file.display());
        replay(name, target, &file);
    }
    ExitCode::SUCCESS
}

fn replay(name: &str, target: fn(&[u8]), file: &Path) {
    let data = fs::read(file).expect("the file can be read");
    let result = std::panic::catch_unwind(|| target(&data));
    if let Err(panic) = result {
        eprintln!("{name} failed on {}", file.display());
        std::panic::resume_unwind(panic);
    }
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .map(|entry| entry.expect("the folder can be listed").path())
        .collect();
    files.sort();
    files
}
