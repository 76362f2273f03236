//! Takes our secrets out of what a receiver answered: some repeat what they were sent. Pure.

/// Where so much of a secret's beginning stands, the secret stands.
const BEGINNING: usize = 16;
/// Shorter values of headers and parameters stay: they are words like `1` or `gold`, and no secrets.
const VALUE_MIN: usize = 6;
const INSTEAD: &[u8] = b"***";

/// The answer without the token that went along in `Authorization` and without these values of headers and parameters, whole
/// or cut short.
pub(super) fn without(answer: Vec<u8>, authorization: Option<&[u8]>, values: &[Vec<u8>]) -> Vec<u8> {
    let token = authorization.and_then(|value| value.strip_prefix(b"Bearer ")).unwrap_or_default();
    let values = values.iter().filter(|value| value.len() >= VALUE_MIN);
    values.fold(cut(answer, token), |answer, value| cut(answer, value))
}

fn cut(mut answer: Vec<u8>, secret: &[u8]) -> Vec<u8> {
    let beginning = &secret[..secret.len().min(BEGINNING)];
    if beginning.is_empty() {
        return answer;
    }
    let mut from = 0;
    while let Some(found) = answer[from..].windows(beginning.len()).position(|window| window == beginning) {
        let start = from + found;
        let length = answer[start..].iter().zip(secret).take_while(|(said, sent)| said == sent).count();
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
            String::from_utf8(without(
                answer.into(),
                Some(value.as_bytes()),
                &[b"api-key-1234".to_vec(), b"gold".to_vec()],
            ))
            .unwrap()
        };
        assert_eq!(without(&format!("no {token}, no {token}")), "no ***, no ***");
        assert_eq!(without(&format!("cut {}", &token[..20])), "cut ***");
        assert_eq!(without("x-api-key: api-key-1234, plan: gold"), "x-api-key: ***, plan: gold");
        assert_eq!(without("nothing of it"), "nothing of it");
        assert_eq!(without(""), "");
        assert_eq!(super::without(b"Bearer".to_vec(), None, &[]), b"Bearer");
        assert_eq!(super::without(b"a bc".to_vec(), Some(b"Bearer bc"), &[]), b"a ***");
    }
}
