//! `postern cert request`: a key, and the request that a real authority answers.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{
    New,
    place::{self, Access, Piece},
    refused, shown, stem, tell,
};
use crate::{
    cli::{Failure, print},
    tls::issue::{Request, RequestKey, SubjectAltName},
};

#[derive(Args)]
pub(in crate::cli) struct RequestArguments {
    /// The name in its subject, such as edge-001; the files are called by it
    #[arg(long, value_name = "NAME")]
    common_name: String,
    /// A host name, an IP address, a URI or an e-mail address that receivers may look for; may be said many times
    #[arg(long = "name", value_name = "NAME")]
    names: Vec<SubjectAltName>,
    #[command(flatten)]
    new: New,
    /// Ask for this key, which is there already, instead of making one
    #[arg(long, value_name = "FILE", conflicts_with = "key")]
    existing_key: Option<PathBuf>,
}

pub(super) fn request(arguments: &RequestArguments) -> Result<(), Failure> {
    let RequestArguments { common_name, names, new: New { subject, key, folder, output }, existing_key } = arguments;
    let signer = match existing_key {
        Some(path) => RequestKey::load(path).map_err(refused)?,
        None => RequestKey::generate(*key).map_err(refused)?,
    };
    let made = Request::new(&subject.named(Some(common_name)), names, &signer).map_err(refused)?;
    let file = |kind| folder.join(format!("{}.{kind}", stem(common_name)));
    let (request, key) = (file("csr"), existing_key.clone().unwrap_or_else(|| file("key")));
    let mut pieces = vec![Piece { path: request.clone(), text: &made.request_pem, access: Access::Everybody }];
    if let Some(key_pem) = &made.key_pem {
        pieces.insert(0, Piece { path: key.clone(), text: key_pem, access: Access::Service });
    }
    place::create(folder, &pieces)?;

    if output.json {
        return print(&json!({ "request": request, "key": key }));
    }
    tell(&request, &"the request; it holds no secret")?;
    let whose =
        if existing_key.is_some() { "its key, which stays as it is" } else { "its key; it stays on this machine" };
    tell(&key, &whose)?;
    let is_new = existing_key.is_none();
    print(&format_args!(
        "
next: send {} to your authority, and ask for a certificate for clients (clientAuth) with its intermediates.
Put what it answers in place, in whatever order it is:
  postern cert install ANSWER --key {} --certificate {}
or, where a destination has a certificate already:
  postern cert install ANSWER{} --destination NAME",
        shown(&request),
        shown(&key),
        shown(&key.with_extension("crt")),
        if is_new { format!(" --new-key {}", shown(&key)) } else { String::new() },
    ))
}
