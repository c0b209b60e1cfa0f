//! What a session is to be furnished with, as the control plane describes it.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::staging::Wish;

/// Most skills of one session, as the control plane documents it.
const MAX_SKILLS: usize = 500;

/// Most memory stores of one session, as the control plane documents it.
const MAX_STORES: usize = 8;

/// What a session has.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) skills: Vec<Skill>,
    pub(super) stores: Vec<Store>,
    pub(super) inputs: Vec<Wish>,
}

impl Wanted {
    /// Whether that is nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.skills.is_empty() && self.stores.is_empty() && self.inputs.is_empty()
    }
}

/// A skill of the session's agent.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Skill {
    pub(super) skill_id: String,
    #[serde(default = "latest")]
    pub(super) version: String,
}

/// A memory store that the session has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Store {
    pub(super) id: String,
    pub(super) read_only: bool,
    /// Where it is in the sandbox.
    pub(super) path: String,
}

fn latest() -> String {
    "latest".to_owned()
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    agent: Agent,
    #[serde(default)]
    resources: Vec<serde_json::Value>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
struct Agent {
    #[serde(default)]
    skills: Vec<Skill>,
}

#[derive(Deserialize)]
struct Resource {
    memory_store_id: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    access: Option<String>,
    #[serde(default)]
    mount_path: Option<String>,
}

/// What is wanted, or why that cannot be told. Inputs only where there may be any.
pub(super) fn read(document: &str, with_inputs: bool) -> Result<Wanted, String> {
    let document: Document =
        serde_json::from_str(document).map_err(|error| format!("the session cannot be read: {error}"))?;
    if document.agent.skills.len() > MAX_SKILLS {
        return Err(format!("the session has more than {MAX_SKILLS} skills"));
    }
    let of_memory = |resource: &&serde_json::Value| resource["type"] == "memory_store";
    let stores: Vec<Store> =
        document.resources.iter().filter(of_memory).map(store).collect::<Result<_, _>>()?;
    if stores.len() > MAX_STORES {
        return Err(format!("the session has more than {MAX_STORES} memory stores"));
    }
    let below = |one: &str, other: &str| {
        one.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    for (n, store) in stores.iter().enumerate() {
        if let Some(other) = stores[..n]
            .iter()
            .find(|other| below(&store.path, &other.path) || below(&other.path, &store.path))
        {
            return Err(format!(
                "the memory stores {} and {} share the place {}",
                other.id, store.id, store.path
            ));
        }
    }
    let inputs = if with_inputs { Wish::read(&document.metadata)? } else { Vec::new() };
    Ok(Wanted { skills: document.agent.skills, stores, inputs })
}

fn store(resource: &serde_json::Value) -> Result<Store, String> {
    let resource: Resource = Resource::deserialize(resource)
        .map_err(|error| format!("a memory store of the session cannot be read: {error}"))?;
    let id = resource.memory_store_id;
    let path = resource.mount_path.unwrap_or_else(|| {
        let named =
            resource.name.filter(|name| !name.is_empty() && !name.contains('/') && !name.starts_with('.'));
        format!("/workspace/memory/{}", named.as_ref().unwrap_or(&id))
    });
    let plain = path.strip_prefix('/').is_some_and(|path| {
        path.split('/').all(|name| !matches!(name, "" | "." | "..")) && !path.contains('\0')
    });
    if !plain {
        return Err(format!(
            "the memory store {id} is to be at {path:?}; expected an absolute path of names alone"
        ));
    }
    Ok(Store { id, read_only: resource.access.as_deref() == Some("read_only"), path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skills_and_stores_are_read_and_all_else_is_passed_over() {
        let wanted = read(
            r#"{"id": "s", "agent": {"skills": [{"type": "custom", "skill_id": "skill_1"},
                {"type": "anthropic", "skill_id": "pdf", "version": "3"}]},
                "resources": [{"type": "file", "x": 1},
                {"type": "memory_store", "memory_store_id": "m1", "name": "A", "access": "read_only",
                 "mount_path": "/mnt/memory/a"},
                {"type": "memory_store", "memory_store_id": "m2", "name": "../x", "mount_path": null}]}"#,
            true,
        )
        .unwrap();
        let skill = |id: &str, version: &str| Skill { skill_id: id.to_owned(), version: version.to_owned() };
        assert_eq!(wanted.skills, [skill("skill_1", "latest"), skill("pdf", "3")]);
        let places: Vec<_> =
            wanted.stores.iter().map(|store| (store.path.as_str(), store.read_only)).collect();
        assert_eq!(places, [("/mnt/memory/a", true), ("/workspace/memory/m2", false)]);
        assert_eq!(read("{}", true).unwrap(), Wanted::default());
    }

    #[test]
    fn places_that_are_none_are_refused_by_name() {
        let at = |paths: &[&str]| {
            let resources: Vec<_> = paths
                .iter()
                .enumerate()
                .map(|(n, path)| serde_json::json!({"type": "memory_store", "memory_store_id": format!("m{n}"), "mount_path": path}))
                .collect();
            read(&serde_json::json!({"resources": resources}).to_string(), true)
        };
        for path in ["mnt/memory/a", "/mnt/../etc", "/", "/mnt//a", "/mnt/./a"] {
            assert!(at(&[path]).unwrap_err().contains(path), "{path}");
        }
        assert!(at(&["/mnt/memory/a", "/mnt/memory/a/b"]).unwrap_err().contains("share"));
        assert!(at(&["/mnt/memory/a", "/mnt/memory/ab"]).is_ok());
    }
}
