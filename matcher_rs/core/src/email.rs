//! E-mail addresses: one spelling of what was given, and what its provider makes of it.
//!
//! Only what providers document is folded: dots where they are ignored, tags where they are
//! aliases. An unknown domain may deliver `a+b@` to somebody else than `a@`.

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization;

use crate::blocked::{is_disposable, is_role};
use crate::normalise::Rejection;

const LOCAL_BYTES_MAX: usize = 64;
const DOMAIN_BYTES_MAX: usize = 253;

/// What a provider ignores in a local part.
enum Provider {
    Google,
    PlusTag,
    MinusTag,
    /// `anything@name.fastmail.com` is `name@fastmail.com`.
    FastmailSubdomain,
}

/// The address in one spelling: NFKC, trimmed, lower case, its domain in ASCII.
pub(crate) fn normalise(text: &str) -> Result<Cow<'_, str>, Rejection> {
    let text = text.trim();
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase());
    let address =
        if plain { Cow::Borrowed(text) } else { Cow::Owned(fold(text).ok_or(Rejection::Invalid)?) };
    let (local, domain) = address.rsplit_once('@').ok_or(Rejection::Invalid)?;
    if !is_local(local) || !is_domain(domain) {
        return Err(Rejection::Invalid);
    }
    if is_role(local.split('+').next().unwrap_or(local)) {
        return Err(Rejection::Role);
    }
    if is_disposable(domain) {
        return Err(Rejection::Disposable);
    }
    Ok(address)
}

/// What the provider delivers to, of a normalised address. `None` where the domain's provider is
/// not known to ignore anything: then the address is its own canonical form.
pub(crate) fn canonical(address: &str) -> Option<String> {
    let (local, domain) = address.rsplit_once('@')?;
    let provider = provider_of(domain)?;
    let untagged = |mark| match local.split_once(mark) {
        Some((kept, _)) if !kept.is_empty() => kept,
        _ => local,
    };
    Some(match provider {
        Provider::Google => {
            let kept = untagged('+').replace('.', "");
            let kept = if kept.is_empty() { local } else { &kept };
            format!("{kept}@gmail.com")
        }
        Provider::PlusTag => format!("{}@{domain}", untagged('+')),
        Provider::MinusTag => format!("{}@{domain}", untagged('-')),
        Provider::FastmailSubdomain => domain.replacen('.', "@", 1),
    })
}

fn provider_of(domain: &str) -> Option<Provider> {
    match domain {
        "gmail.com" | "googlemail.com" => Some(Provider::Google),
        "outlook.com" | "hotmail.com" | "live.com" | "msn.com" | "fastmail.com" | "fastmail.fm"
        | "proton.me" | "protonmail.com" | "protonmail.ch" | "pm.me" | "icloud.com" | "me.com"
        | "mac.com" => Some(Provider::PlusTag),
        "ymail.com" | "rocketmail.com" => Some(Provider::MinusTag),
        _ if domain.ends_with(".fastmail.com") || domain.ends_with(".fastmail.fm") => {
            let labels = domain.split('.').count();
            (labels == 3).then_some(Provider::FastmailSubdomain)
        }
        _ => national(domain),
    }
}

/// The national domains of providers: `yahoo.co.uk`, `outlook.fr`.
fn national(domain: &str) -> Option<Provider> {
    let (name, rest) = domain.split_once('.')?;
    let is_suffix = matches!(rest.split('.').count(), 1 | 2) && rest.len() <= 6;
    match name {
        "yahoo" if is_suffix => Some(Provider::MinusTag),
        "outlook" | "hotmail" | "live" if is_suffix => Some(Provider::PlusTag),
        _ => None,
    }
}

fn fold(text: &str) -> Option<String> {
    let folded: String = text.nfkc().collect();
    // Once more: lower-casing may leave a text that is not composed.
    let folded: String = folded.trim().to_lowercase().nfkc().collect();
    let (local, domain) = folded.rsplit_once('@')?;
    let domain = idna::domain_to_ascii(domain).ok()?;
    Some(format!("{local}@{domain}"))
}

fn is_local(local: &str) -> bool {
    let forbidden = |c: char| c.is_whitespace() || c.is_control() || "\"(),:;<>@[\\]".contains(c);
    !local.is_empty() && local.len() <= LOCAL_BYTES_MAX && !local.chars().any(forbidden)
}

fn is_domain(domain: &str) -> bool {
    let is_label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    domain.len() <= DOMAIN_BYTES_MAX && domain.contains('.') && domain.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(text: &str) -> String {
        normalise(text).expect("is an address").into_owned()
    }

    #[test]
    fn one_spelling_of_an_address() {
        for (given, expected) in [
            ("  Ann@Example.COM ", "ann@example.com"),
            ("ann@ＥＸＡＭＰＬＥ.com", "ann@example.com"),
            ("jörg@bücher.example", "jörg@xn--bcher-kva.example"),
            ("JÖRG@Bücher.example", "jörg@xn--bcher-kva.example"),
            ("a+b@shop.example", "a+b@shop.example"),
        ] {
            assert_eq!(normal(given), expected);
            assert_eq!(normal(expected), expected, "normalising again changes nothing");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for given in [
            "",
            "ann",
            "@example.com",
            "ann@",
            "ann@example",
            "a b@example.com",
            "ann@exa_mple.com",
            "ann@-a.com",
            "ann@a..com",
            "a,b@example.com",
            "a@b@example.com",
            &format!("{}@example.com", "x".repeat(65)),
        ] {
            assert_eq!(normalise(given), Err(Rejection::Invalid), "{given}");
        }
    }

    #[test]
    fn a_role_or_a_domain_to_throw_away_is_nobody() {
        for given in
            ["test@test.com", "Info@shop.example", "noreply+7@shop.example", "test42@shop.example"]
        {
            assert_eq!(normalise(given), Err(Rejection::Role), "{given}");
        }
        assert_eq!(normalise("ann@mailinator.com"), Err(Rejection::Disposable));
    }

    #[test]
    fn providers_ignore_what_they_document() {
        for (given, expected) in [
            ("a.n.n+shop@googlemail.com", Some("ann@gmail.com")),
            ("ann@gmail.com", Some("ann@gmail.com")),
            ("...@gmail.com", Some("...@gmail.com")),
            ("a.nn+x@outlook.com", Some("a.nn@outlook.com")),
            ("ann+x@hotmail.co.uk", Some("ann@hotmail.co.uk")),
            ("ann+x@proton.me", Some("ann@proton.me")),
            ("ann+x@icloud.com", Some("ann@icloud.com")),
            ("ann-x@yahoo.co.uk", Some("ann@yahoo.co.uk")),
            ("-x@yahoo.com", Some("-x@yahoo.com")),
            ("shop@ann.fastmail.com", Some("ann@fastmail.com")),
            ("ann+x@shop.example", None),
            ("ann+x@yahoo.shop.example", None),
        ] {
            assert_eq!(canonical(given).as_deref(), expected, "{given}");
        }
    }

    #[test]
    fn a_canonical_address_is_its_own_canonical_address() {
        for given in ["a.n.n+shop@googlemail.com", "ann-x@yahoo.fr", "shop@ann.fastmail.fm"] {
            let once = canonical(given).expect("a known provider");
            assert_eq!(canonical(&once), Some(once.clone()));
        }
    }
}
