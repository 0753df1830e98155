//! Values that name nobody: placeholders, values of one repeated character, role accounts,
//! domains that hand out addresses to throw away.
//!
//! A list of placeholders is short on purpose. A value that is blocked by mistake loses a person;
//! a placeholder that is let through is caught when too many persons are seen with it.

use crate::rules::Kind;

const PLACEHOLDER_BYTES_MAX: usize = 15;

/// A value in lower case that people and programs write where there is none.
fn is_listed(lower: &[u8]) -> bool {
    matches!(
        lower,
        b"(none)"
            | b"(not set)"
            | b"-1"
            | b"[object object]"
            | b"abc123"
            | b"anonymous"
            | b"asdf"
            | b"blank"
            | b"default"
            | b"deleted"
            | b"dummy"
            | b"empty"
            | b"example"
            | b"fake"
            | b"false"
            | b"guest"
            | b"invalid"
            | b"missing"
            | b"n/a"
            | b"na"
            | b"nan"
            | b"nil"
            | b"no"
            | b"none"
            | b"not available"
            | b"not provided"
            | b"not set"
            | b"not_available"
            | b"not_provided"
            | b"not_set"
            | b"notset"
            | b"null"
            | b"redacted"
            | b"removed"
            | b"true"
            | b"undefined"
            | b"unknown"
            | b"unset"
            | b"void"
            | b"xxx"
    )
}

/// Local parts of mailboxes that several people read, or nobody. Sorted.
const ROLES: &[&str] = &[
    "abuse",
    "accounting",
    "accounts",
    "admin",
    "administrator",
    "all",
    "billing",
    "booking",
    "bookings",
    "careers",
    "compliance",
    "contact",
    "customerservice",
    "customersupport",
    "do-not-reply",
    "do_not_reply",
    "donotreply",
    "enquiries",
    "enquiry",
    "everyone",
    "feedback",
    "finance",
    "ftp",
    "help",
    "helpdesk",
    "hostmaster",
    "hr",
    "info",
    "information",
    "inquiries",
    "invoice",
    "invoices",
    "it",
    "jobs",
    "legal",
    "list",
    "mail",
    "mailer-daemon",
    "marketing",
    "media",
    "news",
    "newsletter",
    "no-reply",
    "no_reply",
    "nobody",
    "none",
    "noreply",
    "null",
    "office",
    "orders",
    "payments",
    "postmaster",
    "press",
    "privacy",
    "purchasing",
    "reception",
    "recruiting",
    "returns",
    "root",
    "sales",
    "security",
    "service",
    "services",
    "spam",
    "staff",
    "support",
    "sysadmin",
    "team",
    "test",
    "testing",
    "undefined",
    "unsubscribe",
    "usenet",
    "user",
    "webmaster",
    "www",
];

/// Domains of throw-away addresses, the common ones; the rules' `blocked_values` add to them.
/// Sorted.
const DISPOSABLE: &[&str] = &[
    "0-mail.com",
    "10minutemail.com",
    "10minutemail.net",
    "1secmail.com",
    "1secmail.net",
    "1secmail.org",
    "20minutemail.com",
    "33mail.com",
    "anonbox.net",
    "anonymbox.com",
    "binkmail.com",
    "bobmail.info",
    "burnermail.io",
    "byom.de",
    "chacuo.net",
    "deadaddress.com",
    "despam.it",
    "discard.email",
    "discardmail.com",
    "discardmail.de",
    "dispostable.com",
    "dodgeit.com",
    "dropmail.me",
    "einrot.com",
    "email-fake.com",
    "emailondeck.com",
    "emailsensei.com",
    "emltmp.com",
    "fakeinbox.com",
    "fakemail.net",
    "fakemailgenerator.com",
    "filzmail.com",
    "generator.email",
    "getairmail.com",
    "getnada.com",
    "grr.la",
    "guerrillamail.biz",
    "guerrillamail.com",
    "guerrillamail.de",
    "guerrillamail.info",
    "guerrillamail.net",
    "guerrillamail.org",
    "guerrillamailblock.com",
    "harakirimail.com",
    "inboxbear.com",
    "inboxkitten.com",
    "incognitomail.com",
    "jetable.org",
    "kasmail.com",
    "mail-temp.com",
    "mail.tm",
    "mailcatch.com",
    "maildrop.cc",
    "mailexpire.com",
    "mailforspam.com",
    "mailinator.com",
    "mailinator.net",
    "mailinator2.com",
    "mailmoat.com",
    "mailnesia.com",
    "mailnull.com",
    "mailpoof.com",
    "mailsac.com",
    "mailtemp.net",
    "meltmail.com",
    "mintemail.com",
    "minuteinbox.com",
    "moakt.cc",
    "moakt.com",
    "mohmal.com",
    "mt2015.com",
    "my10minutemail.com",
    "mytemp.email",
    "mytrashmail.com",
    "nada.email",
    "notmailinator.com",
    "nowmymail.com",
    "owlymail.com",
    "pokemail.net",
    "rcpt.at",
    "sharklasers.com",
    "shitmail.me",
    "sogetthis.com",
    "spam4.me",
    "spambog.com",
    "spambox.us",
    "spamdecoy.net",
    "spamex.com",
    "spamfree24.org",
    "spamgourmet.com",
    "spamhole.com",
    "spamspot.com",
    "suremail.info",
    "temp-mail.io",
    "temp-mail.org",
    "tempail.com",
    "tempinbox.com",
    "tempmail.com",
    "tempmail.dev",
    "tempmail.net",
    "tempmailaddress.com",
    "tempmailo.com",
    "tempr.email",
    "throwam.com",
    "throwawaymail.com",
    "tmail.ws",
    "tmailinator.com",
    "tmpmail.net",
    "tmpmail.org",
    "trash-mail.com",
    "trashmail.com",
    "trashmail.de",
    "trashmail.me",
    "trashmail.net",
    "trbvm.com",
    "wegwerfmail.de",
    "wegwerfmail.net",
    "yopmail.com",
    "yopmail.fr",
    "yopmail.net",
    "zoemail.org",
];

const DEVICE_CHARS_MIN: usize = 6;
const DEVICE_DISTINCT_MIN: usize = 3;
const REPEATED_CHARS_MIN: usize = 6;

/// Whether a trimmed value names nobody, whatever its namespace.
pub(crate) fn is_placeholder(value: &str) -> bool {
    if value.bytes().all(|byte| byte == b'0' || byte == b'-') {
        return true;
    }
    if value.len() > PLACEHOLDER_BYTES_MAX {
        return false;
    }
    let mut buffer = [0_u8; PLACEHOLDER_BYTES_MAX];
    let lower = &mut buffer[..value.len()];
    lower.copy_from_slice(value.as_bytes());
    lower.make_ascii_lowercase();
    let lower = &*lower;
    is_listed(lower)
        || lower.strip_prefix(b"test").is_some_and(|rest| rest.iter().all(u8::is_ascii_digit))
}

/// Whether a value has the shape of none that a machine makes up: one character again and again,
/// and, for a device, shorter than six characters or of fewer than three different ones.
pub(crate) fn is_misshapen(kind: Kind, namespace: &str, value: &str) -> bool {
    let mut distinct = [0_u8; DEVICE_DISTINCT_MIN];
    let (mut found, mut chars) = (0, 0);
    for byte in value.bytes().filter(|byte| *byte != b'-') {
        chars += 1;
        if found < DEVICE_DISTINCT_MIN && !distinct[..found].contains(&byte) {
            distinct[found] = byte;
            found += 1;
        }
        if found == DEVICE_DISTINCT_MIN && chars >= REPEATED_CHARS_MIN {
            return false;
        }
    }
    let hardware = kind == Kind::Device && matches!(namespace, "device_id" | "ad_id");
    (chars >= REPEATED_CHARS_MIN && found < 2)
        || (hardware && (chars < DEVICE_CHARS_MIN || found < DEVICE_DISTINCT_MIN))
}

/// Whether the local part, lower-cased, is a role rather than a person.
pub(crate) fn is_role(local: &str) -> bool {
    ROLES.binary_search(&local).is_ok()
        || local.strip_prefix("test").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()))
}

/// Whether addresses of this domain are thrown away.
pub(crate) fn is_disposable(domain: &str) -> bool {
    DISPOSABLE.binary_search(&domain).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_sorted_so_that_they_can_be_searched() {
        for list in [ROLES, DISPOSABLE] {
            let unsorted = list.windows(2).find(|pair| pair[0] >= pair[1]);
            assert_eq!(unsorted, None);
        }
        assert!(is_placeholder("[Object object]"), "the longest is within the limit");
    }

    #[test]
    fn placeholders_in_any_case_name_nobody() {
        for value in [
            "",
            "0",
            "0000",
            "--",
            "NULL",
            "Undefined",
            "[object Object]",
            "N/A",
            "test",
            "Test42",
            "00000000-0000-0000-0000-000000000000",
        ] {
            assert!(is_placeholder(value), "{value}");
        }
        for value in ["u1", "tester", "test-user-7", "10", "nullable", "anonymous-7"] {
            assert!(!is_placeholder(value), "{value}");
        }
    }

    #[test]
    fn one_character_again_and_again_names_nobody() {
        assert!(is_misshapen(Kind::Person, "user_id", "111111"));
        assert!(is_misshapen(Kind::Device, "anonymous_id", "ffffffff-ffff-ffff"));
        assert!(!is_misshapen(Kind::Person, "user_id", "11111"));
        assert!(!is_misshapen(Kind::Device, "anonymous_id", "a1"));
    }

    #[test]
    fn a_device_id_of_few_characters_is_no_device_id() {
        assert!(is_misshapen(Kind::Device, "device_id", "a1b2c"));
        assert!(is_misshapen(Kind::Device, "ad_id", "ababababab"));
        assert!(!is_misshapen(Kind::Device, "device_id", "a1b2c3"));
    }
}
