//! An identity: a value in a namespace, such as an address in `Email`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};

/// Longest namespace, in bytes. AEP's own codes are shorter than 20.
const NAMESPACE_BYTES_MAX: usize = 64;
/// Longest value, in bytes: it becomes part of a key of the store, and long keys cost every page they stand in.
const VALUE_BYTES_MAX: usize = 1024;

/// A namespace as it was written. Two spellings that differ in case only are the same namespace.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Namespace(String);

impl Namespace {
    /// Reads a namespace: 1 to 64 bytes, no control characters.
    ///
    /// # Errors
    /// [`NotAnIdentity`] otherwise.
    pub fn parse(text: &str) -> Result<Self, NotAnIdentity> {
        if text.is_empty() || text.len() > NAMESPACE_BYTES_MAX || text.chars().any(char::is_control) {
            return Err(NotAnIdentity::Namespace);
        }
        Ok(Self(text.to_owned()))
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The form that is compared.
    pub fn folded(&self) -> String {
        self.0.to_lowercase()
    }
}

impl PartialEq for Namespace {
    fn eq(&self, other: &Self) -> bool {
        self.folded() == other.folded()
    }
}

impl Eq for Namespace {}

/// A value in a namespace. `Debug` shows no value: it is personal data.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    namespace: Namespace,
    value: String,
}

impl Identity {
    /// An identity of a value of 1 to 1024 bytes.
    ///
    /// # Errors
    /// [`NotAnIdentity`] for an empty or an overlong value.
    pub fn new(namespace: Namespace, value: &str) -> Result<Self, NotAnIdentity> {
        if value.is_empty() || value.len() > VALUE_BYTES_MAX {
            return Err(NotAnIdentity::Value(namespace));
        }
        Ok(Self { namespace, value: value.to_owned() })
    }

    /// Where the value counts.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The value, case-sensitive.
    pub fn value(&self) -> &str {
        &self.value
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({}:…)", self.namespace.0)
    }
}

/// Why something is not an identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAnIdentity {
    /// The namespace is empty, too long or has control characters.
    #[error("an identity namespace has 1 to {NAMESPACE_BYTES_MAX} bytes and no control characters")]
    Namespace,
    /// The value is empty or too long.
    #[error("the identity in namespace {} must have 1 to {VALUE_BYTES_MAX} bytes", .0.as_str())]
    Value(Namespace),
}

/// A set of identities, by namespace; each namespace keeps the spelling in which it came first.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Identities(BTreeMap<String, (Namespace, BTreeSet<String>)>);

impl Identities {
    /// Adds one; true when it was not there.
    pub fn insert(&mut self, identity: Identity) -> bool {
        let Identity { namespace, value } = identity;
        self.0.entry(namespace.folded()).or_insert_with(|| (namespace, BTreeSet::new())).1.insert(value)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.values().map(|(_, values)| values.len()).sum()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, by namespace and value.
    pub fn iter(&self) -> impl Iterator<Item = Identity> + '_ {
        self.namespaces().flat_map(|(namespace, values)| {
            values.iter().map(|value| Identity { namespace: namespace.clone(), value: value.clone() })
        })
    }

    /// The values of each namespace, in order.
    pub fn namespaces(&self) -> impl Iterator<Item = (&Namespace, &BTreeSet<String>)> {
        self.0.values().map(|(namespace, values)| (namespace, values))
    }
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identities({})", self.len())
    }
}

impl Extend<Identity> for Identities {
    fn extend<I: IntoIterator<Item = Identity>>(&mut self, more: I) {
        for identity in more {
            self.insert(identity);
        }
    }
}

impl FromIterator<Identity> for Identities {
    fn from_iter<I: IntoIterator<Item = Identity>>(all: I) -> Self {
        let mut identities = Self::default();
        identities.extend(all);
        identities
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(namespace: &str, value: &str) -> Identity {
        Identity::new(Namespace::parse(namespace).unwrap(), value).unwrap()
    }

    #[test]
    fn namespaces_fold_case_and_keep_their_first_spelling() {
        let mut all = Identities::default();

        assert!(all.insert(identity("Email", "a@example.com")));
        assert!(!all.insert(identity("EMAIL", "a@example.com")));
        assert!(all.insert(identity("email", "A@example.com")));

        let (namespace, values) = all.namespaces().next().unwrap();
        assert_eq!(namespace.as_str(), "Email");
        assert_eq!(values.len(), 2);
    }

    #[test]
    fn empty_and_overlong_are_refused() {
        assert_eq!(Namespace::parse(""), Err(NotAnIdentity::Namespace));
        assert!(Namespace::parse(&"n".repeat(65)).is_err());
        let email = Namespace::parse("Email").unwrap();
        assert!(Identity::new(email.clone(), "").is_err());
        assert!(Identity::new(email.clone(), &"v".repeat(1024)).is_ok());
        assert!(Identity::new(email, &"v".repeat(1025)).is_err());
    }

    #[test]
    fn debug_shows_no_value() {
        assert!(!format!("{:?}", identity("Email", "secret@example.com")).contains("secret"));
    }
}
