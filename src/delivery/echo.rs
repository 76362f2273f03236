//! Takes our token out of what a receiver answered: some repeat what they were sent. Pure.

/// Where so much of a token's beginning stands, the token stands.
const BEGINNING: usize = 16;
const INSTEAD: &[u8] = b"***";

/// The answer without the token that went along in `Authorization`, whole or cut short.
pub(super) fn without(mut answer: Vec<u8>, authorization: Option<&[u8]>) -> Vec<u8> {
    let token = authorization.and_then(|value| value.strip_prefix(b"Bearer ")).unwrap_or_default();
    let beginning = &token[..token.len().min(BEGINNING)];
    if beginning.is_empty() {
        return answer;
    }
    let mut from = 0;
    while let Some(found) = answer[from..].windows(beginning.len()).position(|window| window == beginning) {
        let start = from + found;
        let length = answer[start..].iter().zip(token).take_while(|(said, sent)| said == sent).count();
        answer.splice(start..start + length, INSTEAD.iter().copied());
        from = start + INSTEAD.len();
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_is_taken_out_wherever_it_stands() {
        let token = "eyJhbGciOiJIUzI1NiJ9.payload.signature";
        let without = |answer: &str| {
            let value = format!("Bearer {token}");
            String::from_utf8(without(answer.into(), Some(value.as_bytes()))).unwrap()
        };
        assert_eq!(without(&format!("no {token}, no {token}")), "no ***, no ***");
        assert_eq!(without(&format!("cut {}", &token[..20])), "cut ***");
        assert_eq!(without("nothing of it"), "nothing of it");
        assert_eq!(without(""), "");
        assert_eq!(super::without(b"Bearer".to_vec(), None), b"Bearer");
        assert_eq!(super::without(b"a bc".to_vec(), Some(b"Bearer bc")), b"a ***");
    }
}
