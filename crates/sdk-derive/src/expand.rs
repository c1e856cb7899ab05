//! The code that the derive writes.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Field, LitStr, Path, Type, parse_quote, parse2};

use crate::attributes::Contract;

/// The implementations for one type.
///
/// # Errors
/// What is wrong with the type or its attributes, at its place.
pub(crate) fn message(input: TokenStream) -> syn::Result<TokenStream> {
    let input: DeriveInput = parse2(input)?;
    let contract = Contract::read(&input.attrs, &input.ident)?;
    let sdk = contract.framework.clone().unwrap_or_else(|| parse_quote!(::sdk));
    let codec = contract.codec.as_ref().map_or_else(|| quote!(#sdk::Json), ToTokens::to_token_stream);
    let key = contract.key.as_ref().map(|key| key_method(key, &input.data)).transpose()?;
    let upcast = upcast_method(&contract, &sdk);
    let reply = reply(&contract, &input, &sdk);
    let asserted = assertions(&contract, &input, &sdk);
    let Contract { name, version, topic, .. } = &contract;
    let ident = &input.ident;
    let (generics, arguments, conditions) = input.generics.split_for_impl();
    Ok(quote! {
        #[automatically_derived]
        impl #generics #sdk::Message for #ident #arguments #conditions {
            const NAME: &'static str = #name;
            const VERSION: u32 = #version;
            const TOPIC: &'static str = #topic;
            type Codec = #codec;
            #key
            #upcast
        }
        #reply
        #asserted
    })
}

/// `Message::key`, from a field. What the field's type must be able to do is asked at the attribute, which is where it is wrong.
fn key_method(key: &LitStr, data: &Data) -> syn::Result<TokenStream> {
    let (index, field) = key_field(key, data)?;
    let member =
        field.ident.as_ref().map_or_else(|| syn::Index::from(index).to_token_stream(), ToTokens::to_token_stream);
    let span = key.span();
    let text = |ty: Option<&Type>| match ty.and_then(last_word) {
        // The most usual key is not copied.
        Some(word) if word == "String" => quote_spanned!(span=> ::std::borrow::Cow::Borrowed(key.as_str())),
        _ => quote_spanned!(span=> ::std::borrow::Cow::Owned(::std::string::ToString::to_string(key))),
    };
    let body = if last_word(&field.ty).is_some_and(|word| word == "Option") {
        let text = text(argument(&field.ty));
        quote_spanned!(span=> self.#member.as_ref().map(|key| #text))
    } else {
        let text = text(Some(&field.ty));
        quote_spanned!(span=> let key = &self.#member; ::std::option::Option::Some(#text))
    };
    Ok(quote! {
        fn key(&self) -> ::std::option::Option<::std::borrow::Cow<'_, str>> {
            #body
        }
    })
}

/// The field of this name, or of this place where fields have no names.
fn key_field<'a>(key: &LitStr, data: &'a Data) -> syn::Result<(usize, &'a Field)> {
    let Data::Struct(data) = data else {
        let what = "a key is a field of a struct; implement `Message` by hand for an enum whose messages have keys";
        return Err(syn::Error::new(key.span(), what));
    };
    let wanted = key.value();
    let names = |(index, field): (usize, &Field)| field.ident.as_ref().map_or(index.to_string(), plain);
    let mut fields = data.fields.iter().enumerate();
    fields.find(|field| names(*field) == wanted).ok_or_else(|| {
        let known: Vec<String> = data.fields.iter().enumerate().map(|field| format!("`{}`", names(field))).collect();
        let there =
            if known.is_empty() { "this type has none".to_owned() } else { format!("there are {}", known.join(", ")) };
        syn::Error::new(key.span(), format!("there is no field `{wanted}`; {there}"))
    })
}

/// A field's name as people say it: `type` for `r#type`.
fn plain(ident: &syn::Ident) -> String {
    let name = ident.to_string();
    name.strip_prefix("r#").map(ToOwned::to_owned).unwrap_or(name)
}

/// The last word of a type's path: `String` of `std::string::String`.
fn last_word(ty: &Type) -> Option<&syn::Ident> {
    match ty {
        Type::Path(path) => path.path.segments.last().map(|segment| &segment.ident),
        _ => None,
    }
}

/// The one argument of a type: `Uuid` of `Option<Uuid>`.
fn argument(ty: &Type) -> Option<&Type> {
    let Type::Path(path) = ty else { return None };
    match &path.path.segments.last()?.arguments {
        syn::PathArguments::AngleBracketed(arguments) => match arguments.args.first()? {
            syn::GenericArgument::Type(ty) => Some(ty),
            _ => None,
        },
        _ => None,
    }
}

/// `Message::upcast`: each version goes to the oldest of the named contracts that is not older than it, which reads it or has a step of its own.
fn upcast_method(contract: &Contract, sdk: &Path) -> Option<TokenStream> {
    if contract.upcasts.is_empty() {
        return None;
    }
    let steps = contract.upcasts.iter().map(|upcast| {
        let (version, older) = (upcast.version, &upcast.contract);
        quote_spanned! {older.span()=>
            if version <= #version {
                let older = #sdk::contract::decode_body::<#older>(version, content_type, body)?;
                return ::std::result::Result::Ok(<Self as ::std::convert::From<#older>>::from(older));
            }
        }
    });
    Some(quote! {
        fn upcast(
            version: u32,
            content_type: ::std::option::Option<&str>,
            body: &[u8],
        ) -> ::std::result::Result<Self, #sdk::contract::DecodeError> {
            #(#steps)*
            ::std::result::Result::Err(#sdk::contract::DecodeError::UnknownVersion {
                name: <Self as #sdk::Message>::NAME,
                found: ::std::convert::From::from(version),
                known: <Self as #sdk::Message>::VERSION,
            })
        }
    })
}

fn reply(contract: &Contract, input: &DeriveInput, sdk: &Path) -> Option<TokenStream> {
    let reply = contract.reply.as_ref()?;
    let ident = &input.ident;
    let (generics, arguments, conditions) = input.generics.split_for_impl();
    Some(quote! {
        #[automatically_derived]
        impl #generics #sdk::Call for #ident #arguments #conditions {
            type Reply = #reply;
        }
    })
}

/// What is held while the service compiles: an older contract has the name and the version that it is listed with. A generic type has no place for that.
fn assertions(contract: &Contract, input: &DeriveInput, sdk: &Path) -> Option<TokenStream> {
    if !input.generics.params.is_empty() {
        return None;
    }
    let asserts = contract.upcasts.iter().map(|upcast| {
        let (name, version, older) = (&contract.name, upcast.version, &upcast.contract);
        let written = older.to_token_stream().to_string();
        let other_version = format!("`upcast({version} = {written})`: `{written}` is not version {version}");
        let other_name = format!("`upcast({version} = {written})`: `{written}` is not called {:?}", name.value());
        quote_spanned! {older.span()=>
            ::std::assert!(<#older as #sdk::Message>::VERSION == #version, #other_version);
            ::std::assert!(#sdk::contract::same_name(<#older as #sdk::Message>::NAME, #name), #other_name);
        }
    });
    Some(quote!(const _: () = { #(#asserts)* };))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the derive says of a type: everything that is wrong, in the order of places.
    fn errors(input: &str) -> Vec<String> {
        match message(input.parse().expect("Rust")) {
            Ok(_) => Vec::new(),
            Err(error) => error.into_iter().map(|error| format!("{}: {error}", place(&error, input))).collect(),
        }
    }

    /// The text that an error points at.
    fn place(error: &syn::Error, input: &str) -> String {
        let (start, end) = (error.span().start().column, error.span().end().column);
        input.chars().skip(start).take(end - start).collect()
    }

    fn check(input: &str, at: &str, says: &str) {
        let errors = errors(input);
        assert!(
            errors.iter().any(|error| error.starts_with(&format!("{at}: ")) && error.contains(says)),
            "{input}\nwants {at}: {says}\nhas {errors:#?}"
        );
    }

    #[test]
    fn mistakes_are_told_where_they_are() {
        check("struct Order;", "Order", "a message needs a name");
        check("#[message(name = \"order.*\")] struct Order;", "\"order.*\"", "'*'");
        check("#[message(name = \"a\", version = 0)] struct Order;", "0", "count from 1");
        check("#[message(name = \"a\", version = \"2\")] struct Order;", "\"2\"", "expected integer");
        check("#[message(name = \"a\", topic = \"\")] struct Order;", "\"\"", "is empty");
        check("#[message(name = \"a\", nmae = \"b\")] struct Order;", "nmae", "there are `name`, `version`");
        check("#[message(name = \"a\", name = \"b\")] struct Order;", "name", "set twice");
        check("#[message(name = \"a\", key = \"id\")] struct Order { order_id: u8 }", "\"id\"", "there are `order_id`");
        check("#[message(name = \"a\", key = \"id\")] enum Order { A { id: u8 } }", "\"id\"", "field of a struct");
        check("#[message(name = \"a\", upcast())] struct Order;", "upcast()", "name a contract");
        check("#[message(name = \"a\", upcast(1 = V1))] struct Order;", "1 = V1", "this is version 1");
        check("#[message(name = \"a\", version = 3, upcast(1 = A, 1 = B))] struct O;", "1 = B", "named twice");
    }

    #[test]
    fn all_mistakes_of_a_type_are_told_at_once() {
        let input = "#[message(name = \"a..b\", topic = \"\", upcast(4 = V4))] struct Order;";
        assert_eq!(errors(input).len(), 3, "{:?}", errors(input));
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let made = message("#[message(name = \"order.created\")] struct Order;".parse().expect("Rust"));
        let made = made.expect("a contract").to_string();
        for part in [
            "NAME : & 'static str = \"order.created\"",
            "VERSION : u32 = 1u32",
            "TOPIC : & 'static str = \"order\"",
            ":: sdk :: Json",
        ] {
            assert!(made.contains(part), "{part} in {made}");
        }
        assert!(!made.contains("fn key") && !made.contains("fn upcast") && !made.contains("Call"), "{made}");
    }

    #[test]
    fn the_framework_may_be_elsewhere() {
        let made = message("#[message(name = \"a\", crate = crate::bus)] struct Order;".parse().expect("Rust"));
        let made = made.expect("a contract").to_string();
        assert!(made.contains("crate :: bus :: Message") && !made.contains(":: sdk"), "{made}");
    }
}
