//! The catalog: things of three kinds, and which of them belong together.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::rfc3339;
use crate::catalog::{Act, Kind};
use crate::check::ThingDraft;
use crate::error::ApiError;
use crate::uri::encoded;

/// One item, variant or category.
pub struct Thing {
    kind: Kind,
    id: String,
    attributes: Map<String, Value>,
    created: Timestamp,
    updated: Timestamp,
    /// How often it was written.
    writes: u64,
    /// By kind the places of what it belongs together with. Each of those has its own place there.
    related: [BTreeSet<u64>; Kind::ALL.len()],
}

/// All things of a kind.
#[derive(Default)]
struct Shelf {
    /// By their places, in the order of their creation.
    things: BTreeMap<u64, Thing>,
    by_id: HashMap<String, u64>,
    next: u64,
}

/// All things.
#[derive(Default)]
pub struct Catalog {
    shelves: [Shelf; Kind::ALL.len()],
}

impl Catalog {
    /// Does what a request asks for. The pointer of an error begins in the thing's resource.
    pub fn perform(&mut self, act: Act, draft: ThingDraft, now: Timestamp) -> Result<(), ApiError> {
        match act {
            Act::Create => self.create(draft, now),
            Act::Update => self.update(draft, now),
            Act::Delete => self.delete(draft.kind, &draft.id).map_err(|error| error.at("/id")),
        }
    }

    fn create(&mut self, draft: ThingDraft, now: Timestamp) -> Result<(), ApiError> {
        let kind = draft.kind;
        if self.find(kind, &draft.id).is_ok() {
            let detail = format!("A {} with this external_id already exists.", kind.resource());
            return Err(ApiError::duplicate(detail).at("/attributes/external_id"));
        }
        let related = self.resolve(kind, draft.related)?;
        let shelf = &mut self.shelves[kind as usize];
        let place = shelf.next;
        shelf.next += 1;
        shelf.by_id.insert(draft.id.clone(), place);
        let thing = Thing {
            kind,
            id: draft.id,
            attributes: draft.attributes,
            created: now,
            updated: now,
            writes: 1,
            related: Default::default(),
        };
        shelf.things.insert(place, thing);
        self.relate(kind, place, related);
        Ok(())
    }

    fn update(&mut self, draft: ThingDraft, now: Timestamp) -> Result<(), ApiError> {
        let kind = draft.kind;
        let place = self.find(kind, &draft.id).map_err(|error| error.at("/id"))?;
        let related = self.resolve(kind, draft.related)?;
        if let Some(thing) = self.shelves[kind as usize].things.get_mut(&place) {
            thing.attributes.extend(draft.attributes);
            thing.updated = now;
            thing.writes += 1;
        }
        self.relate(kind, place, related);
        Ok(())
    }

    /// Deletes a thing, and with an item its variants.
    pub fn delete(&mut self, kind: Kind, id: &str) -> Result<(), ApiError> {
        let place = self.find(kind, id)?;
        self.remove(kind, place);
        Ok(())
    }

    fn remove(&mut self, kind: Kind, place: u64) {
        let shelf = &mut self.shelves[kind as usize];
        let Some(thing) = shelf.things.remove(&place) else { return };
        shelf.by_id.remove(&thing.id);
        for (other, places) in Kind::ALL.into_iter().zip(thing.related) {
            for related in places {
                match (kind, other) {
                    (Kind::Item, Kind::Variant) => self.remove(other, related),
                    _ => {
                        self.places_of(other, related, kind).map(|places| places.remove(&place));
                    }
                }
            }
        }
    }

    fn find(&self, kind: Kind, id: &str) -> Result<u64, ApiError> {
        let unknown = || ApiError::not_found(format!("A {} with this id does not exist.", kind.resource()));
        self.shelves[kind as usize].by_id.get(id).copied().ok_or_else(unknown)
    }

    /// The places of what a thing of this kind is to be related to.
    fn resolve(&self, kind: Kind, ids: Option<Vec<String>>) -> Result<Option<BTreeSet<u64>>, ApiError> {
        let find = |(index, id): (usize, &String)| {
            let at = match kind {
                Kind::Variant => "data".to_owned(),
                Kind::Item | Kind::Category => format!("data/{index}"),
            };
            let at = format!("/relationships/{}/{at}/id", kind.relationship());
            self.find(kind.related(), id).map_err(|error| error.at(at))
        };
        ids.map(|ids| ids.iter().enumerate().map(find).collect()).transpose()
    }

    /// Has a thing be related to these and no others, if it is said to which.
    fn relate(&mut self, kind: Kind, place: u64, related: Option<BTreeSet<u64>>) {
        let other = kind.related();
        let Some(related) = related else { return };
        let Some(places) = self.places_of(kind, place, other) else { return };
        let before = std::mem::replace(places, related.clone());
        for gone in before.difference(&related) {
            self.places_of(other, *gone, kind).map(|places| places.remove(&place));
        }
        for new in related {
            self.places_of(other, new, kind).map(|places| places.insert(place));
        }
    }

    /// The places of the things of another kind that a thing belongs together with.
    fn places_of(&mut self, kind: Kind, place: u64, other: Kind) -> Option<&mut BTreeSet<u64>> {
        self.shelves[kind as usize].things.get_mut(&place).map(|thing| &mut thing.related[other as usize])
    }

    pub fn get(&self, kind: Kind, id: &str) -> Result<&Thing, ApiError> {
        self.find(kind, id).map(|place| &self.shelves[kind as usize].things[&place])
    }

    /// All things of a kind or those with these ids, the oldest first.
    pub fn chosen(&self, kind: Kind, ids: Option<&[String]>) -> Vec<&Thing> {
        let things = &self.shelves[kind as usize].things;
        match ids {
            None => things.values().collect(),
            Some(ids) => {
                let places: BTreeSet<u64> = ids.iter().filter_map(|id| self.find(kind, id).ok()).collect();
                places.iter().map(|place| &things[place]).collect()
            }
        }
    }

    /// The ids of the things of another kind that a thing belongs together with.
    fn related_ids(&self, thing: &Thing, other: Kind) -> Vec<&str> {
        let things = &self.shelves[other as usize].things;
        thing.related[other as usize].iter().map(|place| things[place].id.as_str()).collect()
    }

    /// The answer about the one thing (`GetCatalogItemResponseCompoundDocument` and its like).
    pub fn document(&self, thing: &Thing, api_url: &str) -> Value {
        let resource = self.resource(thing, api_url);
        json!({"links": resource["links"], "data": resource})
    }

    /// A thing as answers have it (`CatalogItemResponseObjectResource` and its like).
    pub fn resource(&self, thing: &Thing, api_url: &str) -> Value {
        let kind = thing.kind;
        let url = format!("{api_url}{}/{}/", kind.path(), encoded(&thing.id));
        let name = match kind {
            Kind::Item => Kind::Variant.plural(),
            Kind::Variant | Kind::Category => kind.relationship(),
        };
        let mut relationship = json!({"links": {
            "self": format!("{url}relationships/{name}/"), "related": format!("{url}{name}/")}});
        let mut attributes = thing.attributes.clone();
        attributes.insert("updated".to_owned(), rfc3339(thing.updated).into());
        if kind != Kind::Category {
            attributes.insert("created".to_owned(), rfc3339(thing.created).into());
        }
        if let (Kind::Variant, [item]) = (kind, self.related_ids(thing, Kind::Item).as_slice()) {
            relationship["data"] = json!({"type": Kind::Item.resource(), "id": item});
        }
        json!({
            "type": kind.resource(),
            "id": thing.id,
            "attributes": attributes,
            "relationships": {name: relationship},
            "links": {"self": url},
        })
    }

    /// All things as the control path shows them.
    pub fn views(&self) -> Value {
        let views = |kind: Kind| -> Value {
            self.shelves[kind as usize].things.values().map(|thing| self.view(thing)).collect()
        };
        Kind::ALL.into_iter().map(|kind| (kind.plural().to_owned(), views(kind))).collect()
    }

    fn view(&self, thing: &Thing) -> Value {
        let mut view = json!({"id": thing.id, "attributes": thing.attributes, "writes": thing.writes});
        match thing.kind {
            Kind::Item => {
                view["variants"] = json!(self.related_ids(thing, Kind::Variant));
                view["categories"] = json!(self.related_ids(thing, Kind::Category));
            }
            Kind::Variant => view["item"] = json!(self.related_ids(thing, Kind::Item).first()),
            Kind::Category => view["items"] = json!(self.related_ids(thing, Kind::Item)),
        }
        view
    }
}

#[cfg(test)]
mod tests;
