//! Texts in addresses, where most characters are written by their number.

/// A text as an address has it.
pub fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

/// The text of a part of an address. What is no number stays as it is.
pub fn decoded(part: &str) -> String {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let [first, after @ ..] = rest {
        let number = if *first == b'%' { hexadecimal(after) } else { None };
        let (byte, after) = number.unwrap_or((*first, after));
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The byte that two digits are, and what comes after them.
fn hexadecimal(text: &[u8]) -> Option<(u8, &[u8])> {
    let [high, low, rest @ ..] = text else { return None };
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let byte = u8::try_from(digit(high)? * 16 + digit(low)?).ok()?;
    Some((byte, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        let text = "$custom:::$default:::a/b +%2F é~";
        assert_eq!(encoded(text), "%24custom%3A%3A%3A%24default%3A%3A%3Aa%2Fb%20%2B%252F%20%C3%A9~");
        assert_eq!(decoded(&encoded(text)), text);
        for plain in ["", "$custom:::x", "100%", "%2", "%zz", "a+b"] {
            assert_eq!(decoded(plain), plain);
        }
    }
}
