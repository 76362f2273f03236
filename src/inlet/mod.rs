//! Updates come in: routes, wire formats, who may post.

use std::collections::BTreeMap;

mod answer;
mod routes;
pub mod wire;

pub use routes::Entrance;

use crate::profile::{identity::Namespace, path::AttributePath};

/// The inlets by name.
pub type Inlets = BTreeMap<String, Inlet>;

/// An inlet as it is meant: a named HTTP entrance for profile updates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inlet {
    /// Its name, the last part of `/collection/{inlet}`: 1 to 64 letters, digits, `-` and `_`.
    pub name: String,
    /// The dataset that its updates write to.
    pub dataset: String,
    /// Attributes that are identities too, beside `identityMap`.
    pub identities: Vec<IdentityField>,
}

/// An attribute declared to be an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityField {
    /// Where it stands in the entity.
    pub path: AttributePath,
    /// The namespace of its value.
    pub namespace: Namespace,
    /// The update's primary identity, unless `identityMap` names one.
    pub primary: bool,
}
