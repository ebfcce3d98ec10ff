//! Reads a jsonb value as Postgres holds it, piece by piece, into a writer that stops at Klaviyo's limits.

use std::ffi::CStr;

use delivery::invalid::Invalid;
use delivery::json::JsonWriter;
use pgrx::pg_sys::{self, JsonbIteratorToken as Token, JsonbValue, jbvType};

/// Writes a jsonb datum. Where the writer refuses a piece, that is the end.
pub fn write(datum: pg_sys::Datum, writer: &mut JsonWriter) -> Result<(), Invalid> {
    // SAFETY: the datum is a jsonb that the function manager passed; a detoasted copy lives as long as the statement.
    let mut iterator = unsafe {
        let jsonb: *mut pg_sys::Jsonb = pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast();
        pg_sys::JsonbIteratorInit(&raw mut (*jsonb).root)
    };
    let mut value = JsonbValue::default();
    let mut scalar = false;
    loop {
        // SAFETY: the iterator walks a valid jsonb and frees itself at the end.
        let token = unsafe { pg_sys::JsonbIteratorNext(&mut iterator, &mut value, false) };
        match token {
            Token::WJB_DONE => return Ok(()),
            Token::WJB_BEGIN_ARRAY => {
                // SAFETY: with this token the value is an array; one that holds a bare scalar is flagged.
                scalar = unsafe { value.val.array.rawScalar };
                if !scalar {
                    writer.begin(true)?;
                }
            }
            Token::WJB_BEGIN_OBJECT => writer.begin(false)?,
            Token::WJB_END_ARRAY if scalar => {}
            Token::WJB_END_ARRAY | Token::WJB_END_OBJECT => writer.end()?,
            Token::WJB_KEY => writer.key(string(&value))?,
            _ => write_scalar(&value, writer)?,
        }
    }
}

fn write_scalar(value: &JsonbValue, writer: &mut JsonWriter) -> Result<(), Invalid> {
    match value.type_ {
        jbvType::jbvString => writer.string(string(value)),
        // SAFETY: the type says which part of the union is in use.
        jbvType::jbvBool => writer.literal(if unsafe { value.val.boolean } { "true" } else { "false" }),
        jbvType::jbvNumeric => {
            // SAFETY: as above; numeric_out returns a string that ends in NUL, which is freed once it is written.
            unsafe {
                let text = numeric_text(pg_sys::Datum::from(value.val.numeric));
                let written = writer.literal(text.to_str().unwrap_or("null"));
                pg_sys::pfree(text.as_ptr().cast_mut().cast());
                written
            }
        }
        _ => writer.literal("null"),
    }
}

/// What `numeric` prints: digits with a point, or `NaN`, `Infinity`, `-Infinity`.
///
/// # Safety
/// The datum must be a numeric.
pub unsafe fn numeric_text<'a>(numeric: pg_sys::Datum) -> &'a CStr {
    // SAFETY: numeric_out takes one numeric and returns a palloc'd C string, never NULL.
    unsafe {
        let text = pgrx::direct_function_call_as_datum(pg_sys::numeric_out, &[Some(numeric)]);
        CStr::from_ptr(text.expect("numeric_out returns a string").cast_mut_ptr())
    }
}

/// The text of a key or string. It is UTF-8: the extension refuses to be installed elsewhere.
fn string(value: &JsonbValue) -> &str {
    // SAFETY: the caller's token or type says that this part of the union is in use; the bytes are in the jsonb.
    let bytes = unsafe {
        let string = value.val.string;
        std::slice::from_raw_parts(string.val.cast::<u8>(), string.len.unsigned_abs() as usize)
    };
    std::str::from_utf8(bytes).unwrap_or_default()
}
