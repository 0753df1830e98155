//! The operator's rules, from JSON. Profiles are a function of the evidence and of these.
//!
//! ```json
//! {"default_region": "US", "hull_nodes_max": 5000, "blocked_values": ["..."],
//!  "namespaces": {"user_id": {"code": 0, "priority": 1, "limit": 1, "limit_window": "ever",
//!                             "persons_max": 0}}}
//! ```

use std::collections::{BTreeMap, HashSet};

use rlibphonenumber::{PHONE_NUMBER_UTIL, Region};
use serde::Deserialize;

use crate::error::{Error, Result};

/// Codes of namespaces are below this.
pub const NAMESPACES_MAX: usize = 16;
const LIMIT_MAX: u8 = 250; // counts of a profile are kept in a byte that saturates
const HULL_NODES_MAX: u32 = 60_000; // degrees are kept in 16 bits that saturate
const DAY_US: i64 = 86_400_000_000;

/// What the name of a namespace says about it. Unknown names are contacts of an unknown form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A person's own id at the company: `user_id`, `crm_id`.
    Person,
    /// Something that a person gave to be reached by, or that another system calls them.
    Contact,
    /// An e-mail address: two nodes, as given and canonical.
    Email,
    /// A phone number.
    Phone,
    /// A browser, an app, an advertising id, a click: may be used by several people.
    Device,
}

impl Kind {
    fn of(name: &str) -> Self {
        match name {
            "user_id" | "crm_id" => Self::Person,
            "email" => Self::Email,
            "phone" => Self::Phone,
            "anonymous_id" | "device_id" | "ad_id" | "click_id" => Self::Device,
            _ => Self::Contact,
        }
    }
}

/// The rule of one namespace.
#[derive(Debug, Clone)]
pub struct Namespace {
    /// Its name, for explanations.
    pub name: String,
    /// What the name says about it.
    pub kind: Kind,
    /// Smaller is stronger; edges of the same assurance are ordered by the sum of their ends'.
    pub priority: u32,
    /// Distinct values that a profile may have; 0 is any number.
    pub limit: u8,
    /// The limit holds within every stretch of time of this length; `None` is ever.
    pub window_us: Option<i64>,
    /// Persons that an identifier may be seen with before it is shared; 0 is never shared.
    pub persons_max: u32,
}

/// The rules of resolution.
#[derive(Debug, Clone)]
pub struct Rules {
    namespaces: Vec<Option<Namespace>>,
    pub(crate) default_region: Option<Region>,
    pub(crate) hull_nodes_max: u32,
    pub(crate) blocked_values: HashSet<String>,
    pub(crate) email: Option<u8>,
    pub(crate) email_canonical: Option<u8>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RulesJson {
    #[serde(default = "us")]
    default_region: String,
    #[serde(default = "hull_nodes_max")]
    hull_nodes_max: u32,
    #[serde(default)]
    blocked_values: Vec<String>,
    namespaces: BTreeMap<String, NamespaceJson>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NamespaceJson {
    code: u8,
    priority: u32,
    #[serde(default)]
    limit: u32,
    #[serde(default)]
    limit_window: Window,
    #[serde(default)]
    persons_max: u32,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Window {
    #[default]
    Ever,
    Annually,
    Monthly,
    Weekly,
    Daily,
}

impl Window {
    const fn length_us(self) -> Option<i64> {
        match self {
            Self::Ever => None,
            Self::Annually => Some(365 * DAY_US),
            Self::Monthly => Some(30 * DAY_US),
            Self::Weekly => Some(7 * DAY_US),
            Self::Daily => Some(DAY_US),
        }
    }
}

fn us() -> String {
    "US".to_owned()
}

const fn hull_nodes_max() -> u32 {
    5_000
}

/// A region that has phone numbers.
fn region(code: &str) -> Result<Region> {
    let known = Region::from_code(code).ok();
    known
        .filter(|region| PHONE_NUMBER_UTIL.get_country_code_for_region(*region).is_some())
        .ok_or_else(|| {
            Error::new(format!("default_region is {code:?}; give an ISO 3166 code such as \"US\""))
        })
}

impl Rules {
    /// Reads and checks the rules; an error names the rule that is wrong.
    pub fn from_json(text: &str) -> Result<Self> {
        let json: RulesJson = serde_json::from_str(text)
            .map_err(|error| Error::new(format!("the rules are not as expected: {error}")))?;
        let default_region = region(&json.default_region)?;
        if !(2..=HULL_NODES_MAX).contains(&json.hull_nodes_max) {
            let found = json.hull_nodes_max;
            return Err(Error::new(format!(
                "hull_nodes_max is {found}; give 2 to {HULL_NODES_MAX}"
            )));
        }
        let mut rules = Self {
            namespaces: vec![None; NAMESPACES_MAX],
            default_region: Some(default_region),
            hull_nodes_max: json.hull_nodes_max,
            blocked_values: json.blocked_values.iter().map(|v| v.trim().to_lowercase()).collect(),
            email: None,
            email_canonical: None,
        };
        for (name, namespace) in json.namespaces {
            rules.add(name, &namespace)?;
        }
        Ok(rules)
    }

    fn add(&mut self, name: String, json: &NamespaceJson) -> Result<()> {
        let Some(slot) = self.namespaces.get_mut(usize::from(json.code)) else {
            let most = NAMESPACES_MAX - 1;
            let found = json.code;
            return Err(Error::new(format!("namespaces.{name}.code is {found}; give 0 to {most}")));
        };
        if let Some(taken) = slot {
            let other = &taken.name;
            let found = json.code;
            return Err(Error::new(format!("namespaces.{name}.code is {found}, as is {other}'s")));
        }
        let limit = u8::try_from(json.limit).ok().filter(|limit| *limit <= LIMIT_MAX);
        let limit = limit.ok_or_else(|| {
            let found = json.limit;
            Error::new(format!("namespaces.{name}.limit is {found}; give 0 to {LIMIT_MAX}"))
        })?;
        match name.as_str() {
            "email" => self.email = Some(json.code),
            "email_canonical" => self.email_canonical = Some(json.code),
            _ => {}
        }
        *slot = Some(Namespace {
            kind: Kind::of(&name),
            name,
            priority: json.priority,
            limit,
            window_us: json.limit_window.length_us(),
            persons_max: json.persons_max,
        });
        Ok(())
    }

    /// The rule of a namespace; `None` where no namespace has this code.
    #[must_use]
    pub fn namespace(&self, code: u8) -> Option<&Namespace> {
        self.namespaces.get(usize::from(code))?.as_ref()
    }

    pub(crate) fn kind(&self, code: u8) -> Kind {
        self.namespace(code).map_or(Kind::Contact, |namespace| namespace.kind)
    }

    pub(crate) fn is_person(&self, code: u8) -> bool {
        self.kind(code) == Kind::Person
    }

    pub(crate) fn persons_max(&self, code: u8) -> u32 {
        self.namespace(code).map_or(0, |namespace| namespace.persons_max)
    }

    pub(crate) fn limit(&self, code: u8) -> u8 {
        self.namespace(code).map_or(0, |namespace| namespace.limit)
    }

    pub(crate) fn window_us(&self, code: u8) -> Option<i64> {
        self.namespace(code)?.window_us
    }

    pub(crate) fn has_windows(&self) -> bool {
        self.namespaces.iter().flatten().any(|rule| rule.limit > 0 && rule.window_us.is_some())
    }

    /// A namespace that rules no longer name yields to every other.
    pub(crate) fn priority(&self, code: u8) -> u32 {
        self.namespace(code).map_or(u32::from(u16::MAX), |namespace| namespace.priority)
    }

    pub(crate) fn name(&self, code: u8) -> &str {
        self.namespace(code).map_or("unknown", |namespace| &namespace.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        Rules::from_json(text).expect_err("must be refused").to_string()
    }

    #[test]
    fn a_wrong_rule_is_refused_by_its_name() {
        let namespace = |rule: &str| format!(r#"{{"namespaces": {{"user_id": {rule}}}}}"#);
        let limit = namespace(r#"{"code": 0, "priority": 1, "limit": 251}"#);
        assert!(refused(&limit).contains("namespaces.user_id.limit is 251; give 0 to 250"));
        let code = namespace(r#"{"code": 16, "priority": 1}"#);
        assert!(refused(&code).contains("namespaces.user_id.code is 16; give 0 to 15"));
        let window = namespace(r#"{"code": 0, "priority": 1, "limit_window": "hourly"}"#);
        assert!(refused(&window).contains("hourly"));
        assert!(refused(r#"{"namespaces": {}, "default_region": "Utopia"}"#).contains("Utopia"));
        assert!(refused(r#"{"namespaces": {}, "default_region": "ZZ"}"#).contains("ZZ"));
        assert!(refused(r#"{"namespaces": {}, "hull_nodes_max": 1}"#).contains("hull_nodes_max"));
        assert!(refused(r#"{"namespaces": {}, "surprise": 1}"#).contains("surprise"));
        assert!(refused("no JSON").contains("not as expected"));
        let twice = r#"{"namespaces": {"a": {"code": 1, "priority": 1},
                                       "b": {"code": 1, "priority": 1}}}"#;
        assert_eq!(refused(twice), "namespaces.b.code is 1, as is a's");
    }
}
