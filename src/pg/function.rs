//! Functions that SQL calls, with errors of our own SQLSTATEs.
//!
//! pgrx knows the SQLSTATEs that Postgres defines and turns any other into `internal_error`. A function made with
//! [`sql_function!`] returns its refusal as a value; only when every Rust frame is gone is it raised.

use std::ffi::{CStr, CString, c_char, c_int};

use pgrx::pg_sys;
use pgrx::pg_sys::panic::pgrx_extern_c_guard;

/// An error for the caller: SQLSTATE, message, detail and hint. Empty texts are left out.
#[derive(Debug)]
pub struct Refusal {
    pub sqlstate: &'static str,
    pub message: String,
    pub detail: String,
    pub hint: String,
}

impl From<delivery::invalid::Invalid> for Refusal {
    fn from(invalid: delivery::invalid::Invalid) -> Self {
        Self {
            sqlstate: invalid.fault.sqlstate(),
            message: invalid.message.into_owned(),
            detail: invalid.detail.into_owned(),
            hint: invalid.hint.into_owned(),
        }
    }
}

/// What a function returns; `None` is NULL.
pub type Returned = Result<Option<pg_sys::Datum>, Refusal>;

/// The arguments of a call.
pub struct Arguments(pg_sys::FunctionCallInfo);

impl Arguments {
    /// Argument `number` from 0; None where it is NULL. The type must be that of its SQL declaration.
    pub fn get<T: pgrx::FromDatum>(&self, number: usize) -> Option<T> {
        // SAFETY: the SQL declaration, which only the extension's script makes, has as many arguments as the
        // function asks for, of the types it asks for.
        unsafe { pgrx::pg_getarg::<T>(self.0, number) }
    }

    /// Argument `number` as Postgres passes it; None where it is NULL.
    pub fn datum(&self, number: usize) -> Option<pg_sys::Datum> {
        // SAFETY: as above.
        unsafe { pgrx::pg_getarg_datum(self.0, number) }
    }

    /// The schema that the called function stands in.
    pub fn schema(&self) -> String {
        // SAFETY: the function manager passes which function it calls; that has a schema, whose name ends in NUL.
        unsafe {
            let schema = pg_sys::get_namespace_name(pg_sys::get_func_namespace((*(*self.0).flinfo).fn_oid));
            CStr::from_ptr(schema).to_string_lossy().into_owned()
        }
    }
}

/// Texts in Postgres' memory, for it to free with the statement.
struct Raised {
    sqlstate: c_int,
    message: *const c_char,
    detail: *const c_char,
    hint: *const c_char,
}

enum Ended {
    Returned(Option<pg_sys::Datum>),
    Refused(Raised),
}

/// Runs the body of an SQL function.
///
/// # Safety
/// To be called by Postgres' function manager, through [`sql_function!`].
pub unsafe fn call(fcinfo: pg_sys::FunctionCallInfo, body: fn(&Arguments) -> Returned) -> pg_sys::Datum {
    // SAFETY: what is above us is Postgres; a panic or an error of Postgres' inside is raised by the guard.
    let ended = unsafe {
        pgrx_extern_c_guard(|| match body(&Arguments(fcinfo)) {
            Ok(datum) => Ended::Returned(datum),
            Err(refusal) => Ended::Refused(raised(&refusal)),
        })
    };
    match ended {
        Ended::Returned(Some(datum)) => datum,
        Ended::Returned(None) => {
            // SAFETY: Postgres passes a valid call info.
            unsafe { (*fcinfo).isnull = true };
            pg_sys::Datum::null()
        }
        // SAFETY: nothing in this frame or in `call`'s callers needs dropping.
        Ended::Refused(raised) => unsafe { raise(&raised) },
    }
}

fn raised(refusal: &Refusal) -> Raised {
    Raised {
        sqlstate: encoded(refusal.sqlstate),
        message: in_postgres_memory(&refusal.message),
        detail: in_postgres_memory(&refusal.detail),
        hint: in_postgres_memory(&refusal.hint),
    }
}

/// `MAKE_SQLSTATE` (utils/elog.h): five characters of six bits each.
fn encoded(sqlstate: &str) -> c_int {
    sqlstate
        .bytes()
        .enumerate()
        .map(|(place, byte)| c_int::from((byte.wrapping_sub(b'0')) & 0x3f) << (6 * place))
        .sum()
}

fn in_postgres_memory(text: &str) -> *const c_char {
    let text = CString::new(text.replace('\0', "")).unwrap_or_default();
    // SAFETY: copies a string that ends in NUL.
    unsafe { pg_sys::pstrdup(text.as_ptr()) }
}

// pgrx keeps these to itself, since an error that jumps over Rust frames leaks what they hold. Here there are none.
unsafe extern "C-unwind" {
    fn errstart(elevel: c_int, domain: *const c_char) -> bool;
    fn errcode(sqlerrcode: c_int) -> c_int;
    fn errmsg(fmt: *const c_char, ...) -> c_int;
    fn errdetail(fmt: *const c_char, ...) -> c_int;
    fn errhint(fmt: *const c_char, ...) -> c_int;
    fn errfinish(filename: *const c_char, lineno: c_int, funcname: *const c_char);
}

/// Raises an error, by `longjmp`.
///
/// # Safety
/// No frame between here and Postgres may hold what needs dropping.
unsafe fn raise(raised: &Raised) -> ! {
    const FORMAT: *const c_char = c"%s".as_ptr();
    // SAFETY: the sequence `ereport` (utils/elog.h) expands to; the texts end in NUL and live in Postgres' memory.
    unsafe {
        errstart(pgrx::PgLogLevel::ERROR as c_int, std::ptr::null());
        errcode(raised.sqlstate);
        errmsg(FORMAT, raised.message);
        if *raised.detail != 0 {
            errdetail(FORMAT, raised.detail);
        }
        if *raised.hint != 0 {
            errhint(FORMAT, raised.hint);
        }
        errfinish(c"klaviyo_sync".as_ptr(), 0, std::ptr::null());
    }
    unreachable!("errfinish does not return from an error")
}

/// Makes a Rust function `fn(&Arguments) -> Returned` callable from SQL under the name of a symbol, which must be
/// unique among all libraries of the server.
macro_rules! sql_function {
    ($symbol:ident, $info:ident, $body:path) => {
        /// Tells Postgres that the function takes its arguments the present way (`PG_FUNCTION_INFO_V1`).
        #[unsafe(no_mangle)]
        pub extern "C" fn $info() -> &'static pgrx::pg_sys::Pg_finfo_record {
            static INFO: pgrx::pg_sys::Pg_finfo_record = pgrx::pg_sys::Pg_finfo_record { api_version: 1 };
            &INFO
        }

        /// # Safety
        /// To be called by Postgres' function manager.
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $symbol(
            fcinfo: pgrx::pg_sys::FunctionCallInfo,
        ) -> pgrx::pg_sys::Datum {
            // SAFETY: we were called by the function manager.
            unsafe { $crate::pg::function::call(fcinfo, $body) }
        }
    };
}
pub(crate) use sql_function;
