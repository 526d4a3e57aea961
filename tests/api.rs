//! The public API, as one text (`docs/api.txt`): a change of it shows in review.
//!
//! The listing follows the `pub use`s of `lib.rs` through the sources, and gives of each item what
//! a user can name: its signature, public fields and methods, and the traits it has. It reads
//! sources, not what the compiler makes of them, so an implementation that a macro writes is not
//! seen. After a change that is meant: `BLESS=1 cargo test --test api`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use syn::visit_mut::VisitMut;
use syn::{Attribute, Fields, ImplItem, Item, TraitItem, UseTree, Visibility, parse_quote};

const LISTING: &str = "docs/api.txt";

/// The items of each module, by its path.
type Modules = BTreeMap<Vec<String>, Vec<Item>>;

#[test]
fn the_public_api_is_the_one_that_was_reviewed() {
    let listing = listing(Path::new("."));
    let path = Path::new(LISTING);
    if std::env::var_os("BLESS").is_some() {
        fs::write(path, &listing).expect("it can be written");
    }
    let reviewed = fs::read_to_string(path).unwrap_or_default();
    let differs = listing
        .lines()
        .zip(reviewed.lines())
        .find(|(is, was)| is != was);
    assert!(
        listing == reviewed,
        "the public API changed, first at {differs:?}; BLESS=1 cargo test --test api takes it"
    );
}

#[test]
fn a_method_that_is_not_listed_is_noticed() {
    let source: syn::File = parse_quote! {
        mod inner {
            pub struct Thing { pub shown: u8, hidden: u8 }
            impl Thing {
                pub fn listed(&self) -> u8 { self.hidden }
                fn not_listed(&self) {}
            }
            impl Clone for Thing { fn clone(&self) -> Self { todo!() } }
            pub struct Other;
        }
        pub use inner::Thing as Renamed;
    };
    let mut modules = Modules::new();
    collect(Path::new("/nowhere"), vec![], source.items, &mut modules);
    let text = print(&modules);
    assert!(text.contains("pub fn listed(&self) -> u8"), "{text}");
    assert!(text.contains("impl Clone for Thing"), "{text}");
    assert!(text.contains("pub shown: u8"), "{text}");
    for hidden in ["not_listed", "hidden", "Other"] {
        assert!(!text.contains(hidden), "{hidden}: {text}");
    }
}

fn listing(root: &Path) -> String {
    let source = root.join("src");
    let lib = fs::read_to_string(source.join("lib.rs")).expect("the library");
    let lib = syn::parse_file(&lib).expect("it is Rust");
    let mut modules = Modules::new();
    collect(&source, vec![], lib.items, &mut modules);
    print(&modules)
}

/// Reads `items` of the module at `path`, and the modules in it, from `folder`.
fn collect(folder: &Path, path: Vec<String>, items: Vec<Item>, modules: &mut Modules) {
    for item in &items {
        let Item::Mod(module) = item else { continue };
        if is_test(&module.attrs) {
            continue;
        }
        let name = module.ident.to_string();
        let mut inner = path.clone();
        inner.push(name.clone());
        if let Some((_, items)) = &module.content {
            collect(&folder.join(&name), inner, items.clone(), modules);
            continue;
        }
        let files = [
            folder.join(format!("{name}.rs")),
            folder.join(&name).join("mod.rs"),
        ];
        let text = files.iter().find_map(|file| fs::read_to_string(file).ok());
        let text = text.unwrap_or_else(|| panic!("no file for module {inner:?}"));
        let file = syn::parse_file(&text).expect("it is Rust");
        collect(&folder.join(&name), inner, file.items, modules);
    }
    modules.insert(path, items);
}

fn is_test(attributes: &[Attribute]) -> bool {
    let says = |attribute: &Attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<syn::Ident>()
                .is_ok_and(|of| of == "test")
    };
    attributes.iter().any(says)
}

fn is_hidden(attributes: &[Attribute]) -> bool {
    let says = |attribute: &Attribute| {
        attribute.path().is_ident("doc")
            && attribute
                .parse_args::<syn::Ident>()
                .is_ok_and(|of| of == "hidden")
    };
    attributes.iter().any(says)
}

/// The whole listing: each public module with its items.
fn print(modules: &Modules) -> String {
    let mut out = String::new();
    for path in public_modules(modules) {
        let mut items = BTreeMap::new();
        let mut elsewhere = Vec::new();
        for item in &modules[&path] {
            match item {
                Item::Use(item) if is_public(&item.vis) => {
                    let mut leaves = Vec::new();
                    flatten(&item.tree, &mut Vec::new(), &mut leaves);
                    for leaf in leaves {
                        match resolve(modules, &path, &leaf, 8) {
                            Some(found) if path != ["prelude"] => {
                                items.insert(found.0, found.1);
                            }
                            _ => elsewhere.push(leaf.join("::")),
                        }
                    }
                }
                item => {
                    if let Some((name, item)) = named(item).filter(|(_, item)| is_shown(item)) {
                        items.insert(name, item.clone());
                    }
                }
            }
        }
        let place = [vec!["anabranch".to_owned()], path].concat().join("::");
        out.extend(["// ", &place, "\n\n"]);
        elsewhere.sort();
        for path in &elsewhere {
            out.extend(["pub use ", path, ";\n"]);
        }
        if !elsewhere.is_empty() {
            out.push('\n');
        }
        for (name, item) in items {
            out.push_str(&printed(&name, item, modules));
            out.push('\n');
        }
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

/// The root, and every module that is public all the way or re-exported from there.
fn public_modules(modules: &Modules) -> Vec<Vec<String>> {
    let is_open = |path: &Vec<String>| {
        (1..=path.len()).all(|length| {
            let (parent, name) = (&path[..length - 1], &path[length - 1]);
            let of_parent = modules.get(parent).into_iter().flatten();
            of_parent.into_iter().any(|item| {
                matches!(item, Item::Mod(module) if module.ident == name && is_public(&module.vis))
            })
        })
    };
    modules
        .keys()
        .filter(|path| is_open(path))
        .cloned()
        .collect()
}

fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

/// `a::{b, c::d}` as `a::b`, `a::c::d`; a rename gives the old name.
fn flatten(tree: &UseTree, before: &mut Vec<String>, leaves: &mut Vec<Vec<String>>) {
    match tree {
        UseTree::Path(path) => {
            before.push(path.ident.to_string());
            flatten(&path.tree, before, leaves);
            before.pop();
        }
        UseTree::Name(name) => leaves.push([&before[..], &[name.ident.to_string()]].concat()),
        UseTree::Rename(name) => leaves.push([&before[..], &[name.ident.to_string()]].concat()),
        UseTree::Group(group) => {
            group
                .items
                .iter()
                .for_each(|tree| flatten(tree, before, leaves));
        }
        UseTree::Glob(_) => panic!("a glob hides what is public: {before:?}"),
    }
}

/// The item that `leaf`, used in module `at`, stands for; through further uses if need be.
fn resolve(
    modules: &Modules,
    at: &[String],
    leaf: &[String],
    steps: usize,
) -> Option<(String, Item)> {
    let (name, path) = leaf.split_last()?;
    let path: Vec<String> = match path.first().map(String::as_str) {
        Some("crate") => path[1..].to_vec(),
        Some("super") => [&at[..at.len() - 1], &path[1..]].concat(),
        _ => [at, path].concat(),
    };
    let items = modules.get(&path)?;
    if let Some(found) = items
        .iter()
        .filter_map(named)
        .find(|(found, _)| found == name)
    {
        return Some((found.0, found.1.clone()));
    }
    items.iter().find_map(|item| {
        let Item::Use(item) = item else { return None };
        let mut leaves = Vec::new();
        flatten(&item.tree, &mut Vec::new(), &mut leaves);
        let leaf = leaves.into_iter().find(|leaf| leaf.last() == Some(name))?;
        resolve(modules, &path, &leaf, steps.checked_sub(1)?)
    })
}

fn named(item: &Item) -> Option<(String, &Item)> {
    let name = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        _ => return None,
    };
    Some((name.to_string(), item))
}

fn is_shown(item: &Item) -> bool {
    match item {
        Item::Const(item) => is_public(&item.vis),
        Item::Enum(item) => is_public(&item.vis),
        Item::Fn(item) => is_public(&item.vis),
        Item::Struct(item) => is_public(&item.vis),
        Item::Trait(item) => is_public(&item.vis),
        Item::Type(item) => is_public(&item.vis),
        _ => false,
    }
}

/// An item, and what is implemented for it anywhere.
fn printed(name: &str, item: Item, modules: &Modules) -> String {
    let mut items = vec![item];
    if matches!(items[0], Item::Struct(_) | Item::Enum(_)) {
        let mut all: Vec<Item> = modules
            .values()
            .flatten()
            .filter(|i| is_for(i, name))
            .cloned()
            .collect();
        all.retain(|item| match item {
            Item::Impl(item) => item.trait_.is_some() || item.items.iter().any(is_open_method),
            _ => false,
        });
        items.extend(all);
    }
    for item in &mut items {
        Bare.visit_item_mut(item);
    }
    let (first, impls) = items.split_first_mut().expect("one at least");
    let one = |item: &Item| {
        let file = syn::File {
            shebang: None,
            attrs: vec![],
            items: vec![item.clone()],
        };
        prettyplease::unparse(&file).replace(" {}", ";")
    };
    let mut impls: Vec<String> = impls.iter().map(one).collect();
    impls.sort();
    impls.dedup();
    one(first) + &impls.concat()
}

fn is_for(item: &Item, name: &str) -> bool {
    let Item::Impl(item) = item else { return false };
    let syn::Type::Path(of) = &*item.self_ty else {
        return false;
    };
    of.path
        .segments
        .last()
        .is_some_and(|last| last.ident == name)
}

fn is_open_method(item: &ImplItem) -> bool {
    match item {
        ImplItem::Fn(item) => is_public(&item.vis) && !is_hidden(&item.attrs),
        ImplItem::Const(item) => is_public(&item.vis) && !is_hidden(&item.attrs),
        _ => false,
    }
}

/// Takes away what no user can name: bodies, private fields, docs, lints.
struct Bare;

impl VisitMut for Bare {
    fn visit_attributes_mut(&mut self, attributes: &mut Vec<Attribute>) {
        const KEPT: [&str; 4] = ["cfg", "derive", "must_use", "non_exhaustive"];
        attributes.retain(|attribute| KEPT.iter().any(|kept| attribute.path().is_ident(kept)));
    }

    fn visit_block_mut(&mut self, block: &mut syn::Block) {
        block.stmts.clear();
    }

    fn visit_fields_mut(&mut self, fields: &mut Fields) {
        match fields {
            Fields::Named(named) => {
                let shown = named.named.iter().filter(|field| is_public(&field.vis));
                named.named = shown.cloned().collect();
            }
            Fields::Unnamed(unnamed) => {
                let shown = unnamed.unnamed.iter().filter(|field| is_public(&field.vis));
                unnamed.unnamed = shown.cloned().collect();
            }
            Fields::Unit => {}
        }
        syn::visit_mut::visit_fields_mut(self, fields);
    }

    fn visit_item_enum_mut(&mut self, item: &mut syn::ItemEnum) {
        // Fields of variants are public.
        self.visit_attributes_mut(&mut item.attrs);
        for variant in &mut item.variants {
            self.visit_attributes_mut(&mut variant.attrs);
            let fields = variant.fields.iter_mut();
            fields.for_each(|field| self.visit_attributes_mut(&mut field.attrs));
        }
    }

    fn visit_item_impl_mut(&mut self, item: &mut syn::ItemImpl) {
        if item.trait_.is_some() {
            item.items.clear();
        }
        item.items.retain(is_open_method);
        syn::visit_mut::visit_item_impl_mut(self, item);
    }

    fn visit_item_trait_mut(&mut self, item: &mut syn::ItemTrait) {
        item.items
            .retain(|item| !matches!(item, TraitItem::Fn(item) if is_hidden(&item.attrs)));
        syn::visit_mut::visit_item_trait_mut(self, item);
    }

    fn visit_expr_mut(&mut self, value: &mut syn::Expr) {
        // The value of a constant may change.
        if !matches!(value, syn::Expr::Lit(_) | syn::Expr::Path(_)) {
            *value = parse_quote!(_);
        }
    }
}
