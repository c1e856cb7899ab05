//! What `#[message(...)]` says.

use proc_macro2::{Ident, Span};
use syn::meta::ParseNestedMeta;
use syn::spanned::Spanned;
use syn::{Attribute, LitInt, LitStr, Path, Token, Type, parenthesized};

use crate::names::{check_message_name, check_topic, default_topic};

/// The settings, by name, for whoever misspells one.
const SETTINGS: &str = "`name`, `version`, `topic`, `key`, `codec`, `upcast`, `reply` and `crate`";

/// A contract as `#[message(...)]` describes it. Everything is checked but what only the compiler can know.
pub(crate) struct Contract {
    pub(crate) name: LitStr,
    pub(crate) version: u32,
    pub(crate) topic: String,
    /// The field that is the key.
    pub(crate) key: Option<LitStr>,
    pub(crate) codec: Option<Type>,
    /// Older contracts, oldest first, each of another version.
    pub(crate) upcasts: Vec<Upcast>,
    pub(crate) reply: Option<Type>,
    /// Where the framework is.
    pub(crate) framework: Option<Path>,
}

/// `1 = OrderCreatedV1`.
pub(crate) struct Upcast {
    pub(crate) version: u32,
    pub(crate) contract: Type,
    span: Span,
}

/// The settings as they were found, before they are held against each other.
#[derive(Default)]
struct Found {
    name: Option<LitStr>,
    version: Option<(u32, Span)>,
    topic: Option<LitStr>,
    key: Option<LitStr>,
    codec: Option<Type>,
    upcasts: Option<Vec<Upcast>>,
    reply: Option<Type>,
    framework: Option<Path>,
}

impl Contract {
    /// Reads the attributes of a type.
    ///
    /// # Errors
    /// Everything that is wrong, each at its place.
    pub(crate) fn read(attributes: &[Attribute], of: &Ident) -> syn::Result<Self> {
        let mut found = Found::default();
        let mut errors = Errors::default();
        for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("message")) {
            errors.keep(attribute.parse_nested_meta(|meta| found.setting(&meta)));
        }
        errors.done()?;
        found.check(of)
    }
}

impl Found {
    fn setting(&mut self, meta: &ParseNestedMeta<'_>) -> syn::Result<()> {
        let Some(setting) = meta.path.get_ident() else {
            return Err(meta.error(format!("no such setting; there are {SETTINGS}")));
        };
        match setting.to_string().as_str() {
            "name" => once(&mut self.name, setting, meta.value()?.parse()?),
            "version" => {
                let version = version(&meta.value()?.parse()?)?;
                once(&mut self.version, setting, version)
            }
            "topic" => once(&mut self.topic, setting, meta.value()?.parse()?),
            "key" => once(&mut self.key, setting, meta.value()?.parse()?),
            "codec" => once(&mut self.codec, setting, meta.value()?.parse()?),
            "upcast" => once(&mut self.upcasts, setting, upcasts(meta)?),
            "reply" => once(&mut self.reply, setting, meta.value()?.parse()?),
            "crate" => {
                let path = meta.value()?.call(Path::parse_mod_style)?;
                once(&mut self.framework, setting, path)
            }
            other => Err(meta.error(format!("there is no setting `{other}`; there are {SETTINGS}"))),
        }
    }

    fn check(self, of: &Ident) -> syn::Result<Contract> {
        let Some(name) = self.name else {
            let what = "a message needs a name: #[message(name = \"order.created\")]";
            return Err(syn::Error::new(of.span(), what));
        };
        let mut errors = Errors::default();
        errors.keep(check_message_name(&name.value()).map_err(|why| syn::Error::new(name.span(), why)));
        if let Some(topic) = &self.topic {
            errors.keep(check_topic(&topic.value()).map_err(|why| syn::Error::new(topic.span(), why)));
        }
        let version = self.version.map_or(1, |(version, _)| version);
        let mut upcasts = self.upcasts.unwrap_or_default();
        upcasts.sort_by_key(|upcast| upcast.version);
        for upcast in upcasts.iter().filter(|upcast| upcast.version >= version) {
            let what = format!("upcasts come from older versions, and this is version {version}");
            errors.keep(Err(syn::Error::new(upcast.span, what)));
        }
        for pair in upcasts.windows(2) {
            if let [one, other] = pair
                && one.version == other.version
            {
                let what = format!("version {} is named twice; one contract is its own", other.version);
                errors.keep(Err(syn::Error::new(other.span, what)));
            }
        }
        errors.done()?;
        let topic = self.topic.map_or_else(|| default_topic(&name.value()).to_owned(), |topic| topic.value());
        let (key, codec, reply, framework) = (self.key, self.codec, self.reply, self.framework);
        Ok(Contract { name, version, topic, key, codec, upcasts, reply, framework })
    }
}

/// Keeps a setting, unless it was made before.
fn once<T>(place: &mut Option<T>, setting: &Ident, value: T) -> syn::Result<()> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(syn::Error::new(setting.span(), format!("`{setting}` is set twice"))),
    }
}

fn version(literal: &LitInt) -> syn::Result<(u32, Span)> {
    match literal.base10_parse()? {
        0 => Err(syn::Error::new(literal.span(), "versions count from 1")),
        version => Ok((version, literal.span())),
    }
}

/// `upcast(1 = OrderCreatedV1, 2 = OrderCreatedV2)`.
fn upcasts(meta: &ParseNestedMeta<'_>) -> syn::Result<Vec<Upcast>> {
    let content;
    parenthesized!(content in meta.input);
    let mut upcasts = Vec::new();
    while !content.is_empty() {
        let (version, span) = version(&content.parse()?)?;
        content.parse::<Token![=]>()?;
        let contract: Type = content.parse()?;
        let span = span.join(contract.span()).unwrap_or(span);
        upcasts.push(Upcast { version, contract, span });
        if !content.is_empty() {
            content.parse::<Token![,]>()?;
        }
    }
    if upcasts.is_empty() {
        return Err(meta.error("name a contract: `upcast(1 = OrderCreatedV1)`"));
    }
    Ok(upcasts)
}

/// Errors at several places, which the compiler shows together.
#[derive(Default)]
struct Errors(Option<syn::Error>);

impl Errors {
    fn keep(&mut self, result: syn::Result<()>) {
        match (result, &mut self.0) {
            (Ok(()), _) => {}
            (Err(error), Some(errors)) => errors.combine(error),
            (Err(error), none) => *none = Some(error),
        }
    }

    fn done(self) -> syn::Result<()> {
        self.0.map_or(Ok(()), Err)
    }
}
