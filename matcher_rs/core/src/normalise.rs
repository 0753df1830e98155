//! From a value as it came to the one spelling that is hashed, or the reason why it names nobody.
//!
//! Most values pass through untouched and are borrowed.

use std::borrow::Cow;

use rlibphonenumber::{PHONE_NUMBER_UTIL, PhoneNumberFormat, PhoneNumberType};

use crate::blocked::{is_misshapen, is_placeholder};
use crate::email;
use crate::rules::{Kind, Rules};

const VALUE_BYTES_MAX: usize = 2_048;

/// Why a value is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// No namespace has this code.
    Namespace,
    /// A placeholder, a blocked value, or the shape of one.
    Blocked,
    /// Not an address, not a phone number that exists, or too long.
    Invalid,
    /// A mailbox of a role, not of a person.
    Role,
    /// An address to throw away.
    Disposable,
    /// A number that is free to call, so a company's.
    TollFree,
}

impl Rejection {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Namespace => "namespace",
            Self::Blocked => "blocked",
            Self::Invalid => "invalid",
            Self::Role => "role",
            Self::Disposable => "disposable",
            Self::TollFree => "toll_free",
        }
    }
}

/// The one spelling of a value.
pub(crate) fn normalise<'a>(
    rules: &Rules,
    code: u8,
    value: &'a str,
) -> Result<Cow<'a, str>, Rejection> {
    let namespace = rules.namespace(code).ok_or(Rejection::Namespace)?;
    let trimmed = value.trim();
    if is_placeholder(trimmed) || is_listed(rules, trimmed) {
        return Err(Rejection::Blocked);
    }
    if trimmed.len() > VALUE_BYTES_MAX {
        return Err(Rejection::Invalid);
    }
    let normal = match namespace.kind {
        Kind::Email => email::normalise(trimmed)?,
        Kind::Phone => Cow::Owned(phone(rules, trimmed)?),
        Kind::Contact if rules.email_canonical == Some(code) => canonical_email(trimmed)?,
        Kind::Person | Kind::Contact | Kind::Device => {
            if is_misshapen(namespace.kind, &namespace.name, trimmed) {
                return Err(Rejection::Blocked);
            }
            Cow::Borrowed(trimmed)
        }
    };
    // Other spellings of a blocked value are blocked too.
    if matches!(normal, Cow::Owned(_)) && is_listed(rules, &normal) {
        return Err(Rejection::Blocked);
    }
    Ok(normal)
}

fn is_listed(rules: &Rules, value: &str) -> bool {
    !rules.blocked_values.is_empty() && rules.blocked_values.contains(&value.to_lowercase())
}

fn canonical_email(value: &str) -> Result<Cow<'_, str>, Rejection> {
    let address = email::normalise(value)?;
    Ok(email::canonical(&address).map_or(address, Cow::Owned))
}

/// E.164 of a number that exists; without its extension.
fn phone(rules: &Rules, value: &str) -> Result<String, Rejection> {
    let parsed = PHONE_NUMBER_UTIL.parse(value, rules.default_region);
    let mut number = parsed.map_err(|_| Rejection::Invalid)?;
    match PHONE_NUMBER_UTIL.get_number_type(&number) {
        PhoneNumberType::Unknown => return Err(Rejection::Invalid),
        PhoneNumberType::TollFree => return Err(Rejection::TollFree),
        _ => {}
    }
    number.extension = None;
    Ok(number.format_as(PhoneNumberFormat::E164).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = r#"{"blocked_values": ["Nobody", "+4930123456"], "namespaces": {
        "user_id": {"code": 0, "priority": 1}, "email": {"code": 1, "priority": 3},
        "phone": {"code": 2, "priority": 4}, "device_id": {"code": 4, "priority": 6},
        "email_canonical": {"code": 7, "priority": 5}}}"#;

    fn normal(code: u8, value: &str) -> Result<String, Rejection> {
        let rules = Rules::from_json(RULES).expect("good rules");
        normalise(&rules, code, value).map(Cow::into_owned)
    }

    #[test]
    fn a_user_id_is_trimmed_and_keeps_its_case() {
        assert_eq!(normal(0, " Ann-7 "), Ok("Ann-7".to_owned()));
        assert_eq!(normal(0, " null "), Err(Rejection::Blocked));
        assert_eq!(normal(0, "NOBODY"), Err(Rejection::Blocked));
        assert_eq!(normal(0, &"x".repeat(2_049)), Err(Rejection::Invalid));
        assert_eq!(normal(9, "a"), Err(Rejection::Namespace));
    }

    #[test]
    fn a_phone_number_is_in_e164() {
        for (given, expected) in [
            ("(650) 253-0000", "+16502530000"),
            ("+1 650 253 0000 ext. 12", "+16502530000"),
            ("+44 20 7031 3000", "+442070313000"),
            ("0044 20 7031 3000", ""),
        ] {
            let found = normal(2, given);
            match expected {
                "" => assert!(found.is_err(), "{given}: {found:?}"),
                _ => assert_eq!(found.as_deref(), Ok(expected), "{given}"),
            }
        }
    }

    #[test]
    fn a_phone_number_that_is_short_free_or_none_is_refused() {
        assert_eq!(normal(2, "1-800-356-9377"), Err(Rejection::TollFree));
        for given in ["911", "12", "+1 555", "call me", "+999 123456789"] {
            assert_eq!(normal(2, given), Err(Rejection::Invalid), "{given}");
        }
        assert_eq!(normal(2, "+49 (30) 123456"), Err(Rejection::Blocked));
    }

    #[test]
    fn a_canonical_address_is_what_the_provider_makes_of_it() {
        assert_eq!(normal(7, "A.nn+x@gmail.com"), Ok("ann@gmail.com".to_owned()));
        assert_eq!(normal(7, "A.nn+x@shop.example"), Ok("a.nn+x@shop.example".to_owned()));
        assert_eq!(normal(1, "A.nn+x@gmail.com"), Ok("a.nn+x@gmail.com".to_owned()));
    }

    #[test]
    fn a_device_id_must_look_like_one() {
        assert_eq!(normal(4, "xxxxxx"), Err(Rejection::Blocked));
        assert_eq!(normal(4, "ab"), Err(Rejection::Blocked));
        assert_eq!(normal(4, "9f8e7d"), Ok("9f8e7d".to_owned()));
    }
}
