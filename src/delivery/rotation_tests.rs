//! Which pair is used, without a receiver.

use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use tempfile::TempDir;

use super::*;
use crate::{
    clock::{Clock, Timestamp},
    destination::{Authentication, Destination, Mapping, Unreachable},
    export::ExportId,
    profile::update::UpdateId,
    tls::{
        ClientTlsFiles, HttpsUrl, RootsSource,
        issue::{Authority, Period},
    },
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// An authority, and the clock by which all are judged.
struct Kit {
    directory: TempDir,
    authority: Authority,
    clock: Clock,
    period: Period,
}

impl Kit {
    fn new() -> Self {
        let now = Clock::system().now();
        let period = Period::starting(now, 30 * DAY);
        let authority = Authority::new("Test authority", period).unwrap();
        let clock = Clock::manual(now + Duration::from_secs(60));
        Self { directory: tempfile::tempdir().unwrap(), authority, clock, period }
    }

    fn pair(&self) -> ClientTls {
        self.pair_of(self.period)
    }

    fn pair_of(&self, period: Period) -> ClientTls {
        let client = self.authority.client("Test client", period).unwrap();
        self.load(&client.certificate_pem, &client.key_pem, &self.authority)
    }

    fn load(&self, certificate: &str, key: &str, roots: &Authority) -> ClientTls {
        let write = |name: &str, text: &str| {
            let path = self.directory.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            path
        };
        let (certificate, key) = (write("crt", certificate), write("key", key));
        let roots = RootsSource::File(write("ca", &roots.certificate_pem()));
        ClientTls::load(&ClientTlsFiles { certificate, key, roots }).unwrap()
    }

    fn rotation(&self, on_file: &ClientTls, before: Option<&ClientTls>) -> Rotation {
        let sender = Sender::new(&destination(on_file.clone()), self.clock.clone()).unwrap();
        Rotation::new("crm".parse().unwrap(), sender, before.cloned(), self.clock.clone()).unwrap()
    }
}

/// A destination that nobody listens at.
pub(in crate::delivery) fn destination(tls: ClientTls) -> Destination {
    Destination {
        mapping: Mapping::new("crm".parse().unwrap(), vec![], vec![]),
        description: None,
        query: None,
        headers: Default::default(),
        endpoint: HttpsUrl::parse("https://127.0.0.1:1/").unwrap(),
        authentication: Authentication::None,
        timeout: Duration::from_secs(2),
        retry_delays: [Duration::from_secs(15), Duration::from_secs(30)],
        max_in_flight: 64,
        max_rate: None,
        batch: None,
        unreachable: Unreachable::Hold,
        local_address: None,
        tls,
    }
}

fn export() -> Export {
    let update = UpdateId::new(Timestamp::default());
    let id = ExportId::of(update, Timestamp::default(), &"crm".parse().unwrap());
    Export::new(id, vec![update.into()], Timestamp::default())
}

fn put(rotation: &mut Rotation, tls: &ClientTls) {
    rotation.on_file(Ok(tls.clone()));
    rotation.turn().unwrap();
}

#[track_caller]
fn assert_in_use(rotation: &Rotation, tls: &ClientTls) {
    assert_eq!(rotation.in_use().fingerprint(), tls.credentials().fingerprint());
}

#[test]
fn pair_that_was_taken_back_is_never_used() {
    let kit = Kit::new();
    let (old, now) = (kit.pair(), kit.clock.now());
    let mut rotation = kit.rotation(&old, None);
    put(&mut rotation, &kit.pair_of(Period { from: now + DAY, until: now + 9 * DAY }));
    assert!(rotation.certificates().newer.is_some());

    put(&mut rotation, &old);

    assert_eq!(rotation.certificates().newer, None);
    kit.clock.advance(2 * DAY);
    rotation.turn().unwrap();
    assert_in_use(&rotation, &old);
}

#[test]
fn pair_that_was_accepted_before_a_restart_is_kept() {
    let kit = Kit::new();
    let accepted = kit.pair();
    let mut rotation = kit.rotation(&accepted, None);
    rotation.accepted_before(Some(accepted.credentials().fingerprint()));
    put(&mut rotation, &kit.pair());
    put(&mut rotation, &kit.pair());

    assert_eq!(rotation.refused(&export()), Over::Another);

    assert_in_use(&rotation, &accepted);
}

#[test]
fn other_roots_are_no_other_certificate() {
    let kit = Kit::new();
    let client = kit.authority.client("Test client", kit.period).unwrap();
    let other = Authority::new("Other", kit.period).unwrap();
    let load = |roots| kit.load(&client.certificate_pem, &client.key_pem, roots);
    let mut rotation = kit.rotation(&load(&kit.authority), None);
    let rooted = load(&other);

    put(&mut rotation, &rooted);

    assert_eq!(rotation.in_use().tls, rooted);
    assert_eq!((rotation.refused(&export()), rotation.certificates().newer), (Over::InUse, None));
}

#[test]
fn other_roots_count_while_a_pair_waits_for_its_time() {
    let kit = Kit::new();
    let (old, now) = (kit.pair(), kit.clock.now());
    let mut rotation = kit.rotation(&old, None);
    let period = Period { from: now + DAY, until: now + 9 * DAY };
    let client = kit.authority.client("Test client", period).unwrap();
    let other = Authority::new("Other", kit.period).unwrap();

    put(&mut rotation, &kit.load(&client.certificate_pem, &client.key_pem, &other));

    assert_in_use(&rotation, &old);
    let rooted = kit.load(&client.certificate_pem, &client.key_pem, &other).with_credentials(old.credentials().clone());
    assert_eq!(rotation.in_use().tls, rooted);
}

#[test]
fn clock_set_back_strands_no_refused_pair() {
    let kit = Kit::new();
    let (old, new) = (kit.pair(), kit.pair());
    let mut rotation = kit.rotation(&old, None);
    kit.clock.advance(20 * DAY);
    put(&mut rotation, &new);
    rotation.refused(&export());
    assert_in_use(&rotation, &old);

    kit.clock.set(kit.clock.now() - 19 * DAY);
    rotation.turn().unwrap();

    assert_in_use(&rotation, &new);
}

#[test]
fn pair_before_serves_after_a_start_until_the_one_on_file_is_valid() {
    let kit = Kit::new();
    let (old, now) = (kit.pair(), kit.clock.now());
    let future = kit.pair_of(Period { from: now + DAY, until: now + 9 * DAY });
    let mut rotation = kit.rotation(&future, Some(&old));

    rotation.turn().unwrap();
    rotation.on_file(Ok(future.clone()));
    rotation.turn().unwrap();

    assert_in_use(&rotation, &old);
    let newer = rotation.certificates().newer.unwrap();
    assert_eq!((newer.credentials, newer.refused), (future.credentials().clone(), None));
    kit.clock.advance(2 * DAY);
    rotation.turn().unwrap();
    assert_in_use(&rotation, &future);
}

#[test]
fn refused_pair_that_is_not_on_file_any_more_is_not_tried_again() {
    let kit = Kit::new();
    let (old, refused, now) = (kit.pair(), kit.pair(), kit.clock.now());
    let mut rotation = kit.rotation(&old, None);
    put(&mut rotation, &refused);
    rotation.refused(&export());
    put(&mut rotation, &kit.pair_of(Period { from: now + 3 * DAY, until: now + 9 * DAY }));

    kit.clock.advance(DAY);
    rotation.turn().unwrap();

    assert_in_use(&rotation, &old);
}

#[test]
fn ways_to_refuse_a_certificate() {
    let by_token_endpoint = Fault::Token(TokenFault::CertificateRefused);
    let statuses = [Fault::NeverAccepted(400), Fault::Status(495), Fault::Status(496)];
    for fault in [Fault::CertificateRefused, by_token_endpoint].into_iter().chain(statuses) {
        assert!(refuses_certificate(&Outcome::Fault(fault), true));
    }
    let token = [TokenFault::Refused(401), TokenFault::NoAnswer, TokenFault::NotAccepted].map(Fault::Token);
    for fault in [Fault::Closed, Fault::Handshake].into_iter().chain(token) {
        assert!(refuses_certificate(&Outcome::Fault(fault.clone()), false));
        assert!(!refuses_certificate(&Outcome::Fault(fault), true));
    }
    assert!(!refuses_certificate(&Outcome::Fault(Fault::Status(404)), false));
    assert!(!refuses_certificate(&Outcome::Refused(400), false));
}
