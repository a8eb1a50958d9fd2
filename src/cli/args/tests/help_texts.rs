//! The help texts match the code: their flags, defaults and examples.

use super::*;

const SERVERS: [&str; 4] = [help::WSLOOP, help::SERVE, help::ECHO, help::BROADCAST];

const ALL: [&str; 6] = [
    help::WSLOOP,
    help::SERVE,
    help::ECHO,
    help::BROADCAST,
    help::BENCH,
    help::CONNECT,
];

#[test]
fn the_help_fits_a_screen() {
    // A terminal has 24 lines, of which one is for the prompt.
    assert!(help::WSLOOP.lines().count() <= 23);
    for text in ALL {
        assert!(text.is_ascii() && text.ends_with('\n'));
        for line in text.lines() {
            assert!(line.len() <= 79 && line.trim_end() == line, "{line:?}");
        }
    }
}

/// Returns the entry of a flag in the help text of `serve`, on one line.
fn entry(flag: &str) -> String {
    let start = format!("  {flag}");
    let is_first = |line: &str| {
        line.strip_prefix(&start)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    };
    let mut lines = help::SERVE.lines().skip_while(|line| !is_first(line));
    let first = lines.next();
    assert!(first.is_some(), "{flag} has no entry");
    let more = lines.take_while(|line| line.starts_with("      "));
    let words = first
        .into_iter()
        .chain(more)
        .flat_map(str::split_whitespace);
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn the_defaults_in_the_help_are_those_of_config() {
    for limit in &LIMITS {
        let entry = entry(limit.flag);
        let (_, default) = entry
            .split_once("default ")
            .unwrap_or_else(|| panic!("{entry}"));
        if limit.flag == "--connections-max" {
            assert!(
                default.starts_with("the descriptor limit less 32;"),
                "{entry}"
            );
            continue;
        }
        let default = default.split([' ', ';', ',']).next().unwrap();
        let mut config = Config::default();
        assert_eq!(limit.set(&mut config, default), Ok(()), "{entry}");
        assert_eq!(config, Config::default(), "{entry}");
    }
    let reserve = 32;
    let expected = wsloop::descriptors_max().saturating_sub(reserve).max(1);
    assert_eq!(Config::default().connections_max, expected);
}

#[test]
fn the_addresses_and_routes_in_the_help_are_the_default_ones() {
    for text in SERVERS {
        assert!(text.contains(listen::LISTEN_DEFAULT));
    }
    let entry = entry("-r, --route");
    let (_, routes) = entry.split_once("without it ").unwrap();
    let (routes, _) = routes.split_once(". PATH").unwrap();
    let routes = routes.replace(" and ", ", ");
    let routes: Vec<_> = routes
        .split(", ")
        .map(|text| route::parse(text).unwrap())
        .collect();
    assert_eq!(routes, ServerCommand::Serve.routes());
}

#[test]
fn every_flag_in_the_help_exists() {
    let others = ["--help", "--version"];
    for text in SERVERS {
        let words = text.split(|c: char| c.is_whitespace() || ",;.`".contains(c));
        for word in words.filter(|word| word.starts_with("--")) {
            let exists = ServerFlag::find(word).is_some() || others.contains(&word);
            assert!(exists, "{word}");
        }
    }
}

#[test]
fn every_flag_of_a_server_is_in_the_help() {
    for row in FLAGS {
        let start = row
            .short
            .map_or(String::new(), |short| format!("{short}, "));
        assert_ne!(entry(&(start + row.long)), "");
    }
    for limit in &LIMITS {
        assert_ne!(entry(limit.flag), "");
    }
}

#[test]
fn every_example_in_the_help_works() {
    let examples: Vec<_> = ALL
        .iter()
        .filter_map(|text| text.split_once("Examples:\n"))
        .flat_map(|(_, examples)| examples.lines())
        .collect();
    assert_eq!(examples.len(), 19);
    for line in examples {
        let words = line.strip_prefix("  wsloop ").unwrap();
        let words = shell(words);
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        match words[0] {
            "bench" => drop(bench_of(&words)),
            "connect" => drop(connect_of(&words)),
            _ => drop(serve(&words)),
        }
    }
}

/// Splits a line into words as a shell does. Supports single quotes only.
fn shell(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut is_quoted = false;
    for c in line.chars() {
        match c {
            '\'' => is_quoted = !is_quoted,
            ' ' if !is_quoted => words.push(String::new()),
            _ => words.last_mut().unwrap().push(c),
        }
    }
    words
}
