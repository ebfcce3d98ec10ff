//! Calling a function that a user has written.

use std::ffi::CString;

use pgrx::pg_sys;

/// Calls the function with this OID, of one argument of type jsonb, which is passed as its text. What it returns is not looked
/// at. Whether the user may call it has been seen to.
///
/// By its OID: a name can come to mean another between a look and a call, or two.
pub fn call_with_jsonb(function: pg_sys::Oid, argument: &str) {
    /// As `LOCAL_FCINFO(…, 1)` of fmgr.h lays it out: the arguments are behind the rest.
    #[repr(C)]
    struct Call {
        base: pg_sys::FunctionCallInfoBaseData,
        argument: pg_sys::NullableDatum,
    }
    // The text is jsonb's own, which has no NUL.
    let argument = CString::new(argument).unwrap_or_default();
    // SAFETY: as FunctionCall1Coll (utils/fmgr/fmgr.c), but that NULL may come back. Both structures live until the end of the
    // call, and zeroes are what it sets besides. An error is turned into a panic at the boundary, as of every function of
    // Postgres'.
    unsafe {
        let argument = pg_sys::Datum::from(argument.as_ptr());
        let argument = pgrx::direct_function_call_as_datum(pg_sys::jsonb_in, &[Some(argument)]);
        let mut info: pg_sys::FmgrInfo = std::mem::zeroed();
        pg_sys::fmgr_info(function, &mut info);
        let mut call: Call = std::mem::zeroed();
        call.base.flinfo = &mut info;
        call.base.nargs = 1;
        let arguments: *mut pg_sys::NullableDatum = (&raw mut call.base.args).cast();
        debug_assert_eq!(arguments, &raw mut call.argument);
        (*arguments).value = argument.unwrap_or(pg_sys::Datum::null());
        (*arguments).isnull = argument.is_none();
        let call = &raw mut call.base;
        if let Some(address) = info.fn_addr {
            pg_sys::ffi::pg_guard_ffi_boundary(|| address(call));
        }
    }
}
