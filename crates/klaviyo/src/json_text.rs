//! JSON texts as others write them, mended for who keeps them in Postgres.

use std::borrow::Cow;

/// What stands for what is no character.
const REPLACEMENT: &[u8] = b"\\ufffd";

/// A JSON text in which no string holds what a text of Postgres cannot: NULs are left out, and halves of surrogate pairs,
/// which are no characters, replaced. Anything else stays to the byte.
pub fn mended(text: &[u8]) -> Cow<'_, [u8]> {
    let mut mended = Vec::new();
    // What stands before this is in `mended`, if anything had to be mended.
    let mut copied = 0;
    let mut at = 0;
    while let Some(next) = text[at..].iter().position(|byte| *byte == b'\\') {
        at += next;
        let (length, replacement) = match unit(&text[at..]) {
            Some(0) => (6, Some(&b""[..])),
            Some(0xD800..=0xDBFF) if matches!(unit(&text[at + 6..]), Some(0xDC00..=0xDFFF)) => (12, None),
            Some(0xD800..=0xDFFF) => (6, Some(REPLACEMENT)),
            Some(_) => (6, None),
            None => (2, None),
        };
        if let Some(replacement) = replacement {
            mended.extend_from_slice(&text[copied..at]);
            mended.extend_from_slice(replacement);
            copied = at + length;
        }
        at = (at + length).min(text.len());
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    mended.extend_from_slice(&text[copied..]);
    Cow::Owned(mended)
}

/// The number of an escape such as `\u0041` that a text begins with.
fn unit(text: &[u8]) -> Option<u32> {
    let digits = text.strip_prefix(b"\\u")?.first_chunk::<4>()?;
    digits.iter().try_fold(0, |number, digit| Some(number * 16 + char::from(*digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn what_is_no_character_is_mended() {
        for (text, expected) in [
            (r#""a\u0000b""#, r#""ab""#),
            (r#"{"\u0000":"\u0000\u0000"}"#, r#"{"":""}"#),
            (r#""\ud83d""#, r#""\ufffd""#),
            (r#""\udc00\ud83d\ude00""#, r#""\ufffd\ud83d\ude00""#),
            (r#""\uD83Dx\u0041""#, r#""\ufffdx\u0041""#),
        ] {
            let mended = mended(text.as_bytes());
            assert_eq!(String::from_utf8_lossy(&mended), expected);
            assert!(serde_json::from_slice::<Value>(&mended).is_ok(), "{text}");
        }
        for text in [r#""\\u0000""#, r#""\ud83d\ude00\n\"é""#, "[1,2]", ""] {
            assert!(
                matches!(mended(text.as_bytes()), Cow::Borrowed(same) if same == text.as_bytes()),
                "{text}"
            );
        }
    }

    /// Whatever it is, nothing breaks; and of what is JSON nothing but what is no character changes.
    #[test]
    fn whatever_it_is_nothing_breaks() {
        let mut random = fastrand::Rng::with_seed(5);
        let pieces = [r"\", r"\u", "00", "d8", "dc", r"\u0000", r"\ud83d", "\"", "a", r"\\"];
        for _ in 0..20_000 {
            let text: String =
                (0..random.usize(0..12)).map(|_| pieces[random.usize(0..pieces.len())]).collect();
            let mended = mended(text.as_bytes());
            if let Ok(Value::String(before)) = serde_json::from_str(&text) {
                let after: Value = serde_json::from_slice(&mended).expect("what was JSON is JSON");
                assert_eq!(after, Value::String(before.replace('\0', "")));
            }
        }
    }
}
