//! The order in which audiences are evaluated: who is asked for comes before who asks.

use std::collections::BTreeMap;

use super::{Audience, AudienceId};

/// Why audiences cannot be evaluated one after the other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Tangle {
    /// Nobody defines it.
    #[error("audience {audience} asks for {segment}, which is not defined; correct the id, or define it")]
    Unknown {
        /// Who asks.
        audience: AudienceId,
        /// For whom.
        segment: AudienceId,
    },
    /// Who is in them depends on who is in them.
    #[error("audience {0} asks for itself, perhaps by way of others; take one `inSegment` out")]
    Circle(AudienceId),
}

/// Where each audience of `audiences` stands, those first that are asked for by others, otherwise as they are.
///
/// # Errors
/// [`Tangle`], the first one met.
pub fn in_order(audiences: &[Audience]) -> Result<Vec<usize>, Tangle> {
    let places: BTreeMap<&AudienceId, usize> =
        audiences.iter().enumerate().map(|(place, audience)| (&audience.id, place)).collect();
    let mut asks = Vec::with_capacity(audiences.len());
    for audience in audiences {
        let unknown =
            |segment: &AudienceId| Tangle::Unknown { audience: audience.id.clone(), segment: segment.clone() };
        let segments = audience.rule.segments().iter();
        let found: Result<Vec<usize>, Tangle> =
            segments.map(|segment| places.get(segment).copied().ok_or_else(|| unknown(segment))).collect();
        asks.push(found?);
    }
    let (mut order, mut is_placed) = (Vec::with_capacity(audiences.len()), vec![false; audiences.len()]);
    while order.len() < audiences.len() {
        let before = order.len();
        for place in 0..audiences.len() {
            if !is_placed[place] && asks[place].iter().all(|asked| is_placed[*asked]) {
                is_placed[place] = true;
                order.push(place);
            }
        }
        if order.len() == before {
            let stuck = is_placed.iter().position(|placed| !placed).unwrap_or_default();
            return Err(Tangle::Circle(audiences[stuck].id.clone()));
        }
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audience::rule::Rule;

    fn audiences(rules: &[(&str, &str)]) -> Vec<Audience> {
        let audience = |(id, rule): &(&str, &str)| Audience {
            id: id.parse().unwrap(),
            name: (*id).to_owned(),
            created_at: None,
            updated_at: None,
            policy: Default::default(),
            rule: Rule::parse(rule).unwrap(),
        };
        rules.iter().map(audience).collect()
    }

    #[test]
    fn who_is_asked_for_comes_first() {
        let all = audiences(&[
            ("a", r#"inSegment("c") and x = 1"#),
            ("b", "x = 1"),
            ("c", r#"not inSegment("d") or inSegment("b")"#),
            ("d", "x = 2"),
        ]);
        assert_eq!(in_order(&all), Ok(vec![1, 3, 2, 0]));
    }

    #[test]
    fn circles_and_strangers_are_refused() {
        let circle = audiences(&[("a", r#"inSegment("b")"#), ("b", r#"inSegment("a")"#), ("c", "x = 1")]);
        assert_eq!(in_order(&circle), Err(Tangle::Circle("a".parse().unwrap())));
        assert_eq!(in_order(&audiences(&[("a", r#"inSegment("a")"#)])), Err(Tangle::Circle("a".parse().unwrap())));
        let stranger = in_order(&audiences(&[("a", r#"inSegment("nobody")"#)])).unwrap_err();
        assert!(stranger.to_string().contains("asks for nobody"), "{stranger}");
    }
}
