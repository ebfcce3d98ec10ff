//! `klaviyo_create_list`, `klaviyo_rename_list`, `klaviyo_delete_list`; `klaviyo_add_to_list`, `klaviyo_remove_from_list`: lists,
//! and who is on them.

use delivery::identifiers::Identifiers;
use delivery::kind::{list, list_member};

use super::given::Given;
use super::messages::queue;
use crate::outbox::enqueue::Name;
use crate::pg;
use crate::pg::function::{Arguments, Returned, sql_function};

sql_function!(klaviyo_create_list, pg_finfo_klaviyo_create_list, create_list);
sql_function!(klaviyo_rename_list, pg_finfo_klaviyo_rename_list, rename_list);
sql_function!(klaviyo_delete_list, pg_finfo_klaviyo_delete_list, delete_list);
sql_function!(klaviyo_add_to_list, pg_finfo_klaviyo_add_to_list, add_to_list);
sql_function!(klaviyo_remove_from_list, pg_finfo_klaviyo_remove_from_list, remove_from_list);

/// `klaviyo_create_list(name, account)`
fn create_list(arguments: &Arguments) -> Returned {
    let checked = || list::create(arguments.get(0));
    queue("list_create", &Name::next(), arguments.get(1), pg::now(), checked, || given(arguments, &["name"]))
}

/// `klaviyo_rename_list(list, name, account)`
fn rename_list(arguments: &Arguments) -> Returned {
    let checked = || list::rename(arguments.get(0), arguments.get(1));
    let given = || given(arguments, &["list", "name"]);
    queue("list_rename", &Name::next(), arguments.get(2), pg::now(), checked, given)
}

/// `klaviyo_delete_list(list, account)`
fn delete_list(arguments: &Arguments) -> Returned {
    let checked = || list::delete(arguments.get(0));
    queue("list_delete", &Name::next(), arguments.get(1), pg::now(), checked, || given(arguments, &["list"]))
}

/// `klaviyo_add_to_list(list, email, phone_number, external_id, account)`
fn add_to_list(arguments: &Arguments) -> Returned {
    member("list_add", arguments)
}

/// `klaviyo_remove_from_list(list, email, phone_number, external_id, account)`
fn remove_from_list(arguments: &Arguments) -> Returned {
    member("list_remove", arguments)
}

fn member(kind: &'static str, arguments: &Arguments) -> Returned {
    let checked = || {
        let identifiers = Identifiers {
            email: arguments.get(1),
            phone_number: arguments.get(2),
            external_id: arguments.get(3),
        };
        list_member::Draft { list: arguments.get(0), identifiers }.check()
    };
    let given = || given(arguments, &["list", "email", "phone_number", "external_id"]);
    queue(kind, &Name::next(), arguments.get(4), pg::now(), checked, given)
}

/// The first arguments, which are texts.
fn given(arguments: &Arguments, names: &[&str]) -> String {
    let mut given = Given::default();
    for (number, name) in names.iter().enumerate() {
        given.text(name, arguments.get(number));
    }
    given.finish()
}
