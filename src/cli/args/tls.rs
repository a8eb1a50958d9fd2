//! The TLS flags of a server, and the rules for their combinations.

use super::UsageError;
#[cfg(feature = "tls")]
use super::{Host, Listen, ListenAddress, ServeArgs, origin, variables};

/// Returns an error if this binary lacks the cargo feature that a flag needs. `name` is the name of the flag or of its
/// variable.
pub(super) fn check_feature(flag: &str, name: &str) -> Result<(), UsageError> {
    let feature = if !flag.starts_with("--tls-") || cfg!(feature = "tls-self-signed") {
        return Ok(());
    } else if flag == "--tls-self-signed" {
        "tls-self-signed"
    } else if cfg!(feature = "tls") {
        return Ok(());
    } else {
        "tls"
    };
    Err(UsageError(format!(
        "{name} needs TLS; rebuild the binary with the cargo feature {feature:?}"
    )))
}

/// The values of the TLS flags that were parsed so far.
#[cfg(feature = "tls")]
#[derive(Debug, Default)]
pub(super) struct TlsArgs {
    certificates: Vec<String>,
    keys: Vec<String>,
    client_ca: Option<String>,
    is_client_optional: bool,
    is_13_only: bool,
    is_self_signed: bool,
    /// Whether a parent process passes sockets.
    pub(super) is_socket_passed: bool,
}

/// Settings of the listeners with TLS.
#[cfg(feature = "tls")]
#[derive(Debug)]
pub(crate) struct TlsSettings {
    pub(crate) certificates: Certificates,
    /// The file of the CAs of client certificates. `None`: clients are not asked for a certificate.
    pub(crate) client_ca: Option<String>,
    /// Whether clients without a certificate are accepted.
    pub(crate) is_client_optional: bool,
    /// Whether TLS 1.2 is refused.
    pub(crate) is_13_only: bool,
}

/// The source of a server's certificates.
#[cfg(feature = "tls")]
#[derive(Debug)]
pub(crate) enum Certificates {
    /// Pairs of files: a certificate and its key, in one file or two. At least one pair.
    Files(Vec<(String, String)>),
    /// A self-signed certificate, made at start, for these names and addresses.
    #[cfg_attr(
        not(feature = "tls-self-signed"),
        allow(dead_code, reason = "the flag is rejected")
    )]
    SelfSigned(Vec<String>),
}

#[cfg(feature = "tls")]
impl ServeArgs {
    /// Applies `--tls-cert`. Like the other functions that apply a flag, returns the reason for a usage error.
    pub(super) fn tls_cert(&mut self, text: &str) -> Result<(), String> {
        self.tls.certificates.push(path(text)?);
        Ok(())
    }

    /// Applies `--tls-key`.
    pub(super) fn tls_key(&mut self, text: &str) -> Result<(), String> {
        self.tls.keys.push(path(text)?);
        Ok(())
    }

    /// Applies `--tls-client-ca`.
    pub(super) fn tls_client_ca(&mut self, text: &str) -> Result<(), String> {
        self.tls.client_ca = Some(path(text)?);
        Ok(())
    }

    /// Applies `--tls-client-optional`.
    pub(super) fn tls_client_optional(&mut self) {
        self.tls.is_client_optional = true;
    }

    /// Applies `--tls-min`.
    pub(super) fn tls_min(&mut self, text: &str) -> Result<(), String> {
        self.tls.is_13_only = match text {
            "1.2" => false,
            "1.3" => true,
            _ => return Err("is neither 1.2 nor 1.3".to_owned()),
        };
        Ok(())
    }

    /// Applies `--tls-self-signed`.
    pub(super) fn tls_self_signed(&mut self) {
        self.tls.is_self_signed = true;
    }
}

#[cfg(feature = "tls")]
fn path(text: &str) -> Result<String, String> {
    match text {
        "" => Err("is not the path of a file".to_owned()),
        path => Ok(path.to_owned()),
    }
}

/// Checks all TLS flags together, and whether they agree with the listeners.
///
/// # Errors
/// A listener needs a certificate, or flags contradict each other. The message names the flags, or their variables.
#[cfg(feature = "tls")]
pub(super) fn finish(serve: &ServeArgs) -> Result<Option<TlsSettings>, UsageError> {
    let args = &serve.tls;
    let is_given = |flag| serve.given.contains(&flag) || serve.by_variable.contains(&flag);
    let name = |flag| match serve.by_variable.contains(&flag) {
        true => variables::name_of(flag),
        false => flag.to_owned(),
    };
    let fail = |text: String| Err(UsageError(text));
    let has_certificate = !args.certificates.is_empty();
    if has_certificate && args.is_self_signed {
        let (one, other) = (name(CERT), name(SELF_SIGNED));
        return fail(format!("{one} and {other} exclude each other; remove one"));
    }
    if !has_certificate && !args.keys.is_empty() {
        let (key, cert) = (name(KEY), name(CERT));
        return fail(format!(
            "{key} needs a certificate; add {cert} FILE or remove {key}"
        ));
    }
    if !args.keys.is_empty() && args.keys.len() != args.certificates.len() {
        return fail(format!(
            "{} has another number of values ({}) than {} ({}); give a key for each certificate in the same order, or none if the keys are in the files of the certificates",
            name(KEY),
            args.keys.len(),
            name(CERT),
            args.certificates.len()
        ));
    }
    if args.is_client_optional && args.client_ca.is_none() {
        let (optional, ca) = (name(CLIENT_OPTIONAL), name(CLIENT_CA));
        return fail(format!(
            "{optional} needs a CA; add {ca} FILE or remove {optional}"
        ));
    }
    let is_listening = serve.listen.iter().any(|listen| listen.is_tls);
    if !has_certificate && !args.is_self_signed {
        if let Some(flag) = [CLIENT_CA, MIN].into_iter().find(|flag| is_given(flag)) {
            let flag = name(flag);
            return fail(format!(
                "{flag} needs a certificate; add --tls-cert FILE or remove {flag}"
            ));
        }
        if is_listening {
            let try_out = match cfg!(feature = "tls-self-signed") {
                true => ", or --tls-self-signed to try TLS out",
                false => "",
            };
            return fail(format!(
                "a listener with tls: needs a certificate; add --tls-cert FILE and --tls-key FILE{try_out}"
            ));
        }
        return Ok(None);
    }
    // A socket that a parent process passes can be one for TLS. `cli::tls::check` checks this when the names of these
    // sockets are known.
    if !is_listening && !args.is_socket_passed {
        let flag = name(if has_certificate { CERT } else { SELF_SIGNED });
        return fail(format!(
            "{flag} needs a listener with TLS; add -l tls:PORT or remove {flag}"
        ));
    }
    let certificates = if args.is_self_signed {
        Certificates::SelfSigned(names(&serve.listen, &serve.hosts))
    } else {
        let keys = match args.keys.is_empty() {
            true => &args.certificates,
            false => &args.keys,
        };
        let pairs = args.certificates.iter().cloned().zip(keys.iter().cloned());
        Certificates::Files(pairs.collect())
    };
    Ok(Some(TlsSettings {
        certificates,
        client_ca: args.client_ca.clone(),
        is_client_optional: args.is_client_optional,
        is_13_only: args.is_13_only,
    }))
}

/// Returns the names and addresses for a self-signed certificate: those of the listeners and hosts, and the loopback ones,
/// without duplicates.
#[cfg(feature = "tls")]
fn names(listen: &[Listen], hosts: &[Host]) -> Vec<String> {
    let mut names = ["localhost", "127.0.0.1", "::1"]
        .map(str::to_owned)
        .to_vec();
    let listen = listen.iter().filter_map(|listen| match &listen.at {
        ListenAddress::Tcp(address) if !address.is_unspecified() => address.host(),
        ListenAddress::Tcp(_) | ListenAddress::Unix(_) => None,
    });
    let hosts = hosts.iter().filter_map(|host| match host {
        Host::Listed(host) => Some(origin::split_port(host).0),
        Host::Any => None,
    });
    for name in listen.chain(hosts) {
        let name = name.trim_matches(['[', ']']).to_ascii_lowercase();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

#[cfg(feature = "tls")]
pub(super) const CERT: &str = "--tls-cert";
#[cfg(feature = "tls")]
pub(super) const KEY: &str = "--tls-key";
#[cfg(feature = "tls")]
pub(super) const CLIENT_CA: &str = "--tls-client-ca";
#[cfg(feature = "tls")]
pub(super) const CLIENT_OPTIONAL: &str = "--tls-client-optional";
#[cfg(feature = "tls")]
pub(super) const MIN: &str = "--tls-min";
#[cfg(feature = "tls")]
pub(super) const SELF_SIGNED: &str = "--tls-self-signed";
