//! `#[derive(Message)]` of the service framework, which re-exports it. Use it as `sdk::Message`.
//!
//! Architecture invariant: this crate imports nothing of ours. It writes paths below `::sdk` and lets the compiler resolve them.

mod attributes;
mod expand;
mod names;

/// Implements `sdk::Message`, and `sdk::Call` where a reply is named.
///
/// ```ignore
/// #[derive(Serialize, Deserialize, JsonSchema, Message)]
/// #[message(name = "order.created", version = 2, topic = "orders", key = "order_id", upcast(1 = OrderCreatedV1))]
/// struct OrderCreated {
///     order_id: Uuid,
///     total_cents: i64,
///     currency: String,
/// }
/// ```
///
/// | setting | meaning | unless it is there |
/// |---|---|---|
/// | `name = "order.created"` | the message's name and subject: words of letters, digits, `-` and `_`, with dots between | refused |
/// | `version = 2` | version of the contract, from 1 | 1 |
/// | `topic = "orders"` | the topic that it is published to | the first word of the name |
/// | `key = "order_id"` | the field that is the ordering and partitioning key, as its `Display` writes it; none when it is an `Option` that is `None` | no key |
/// | `codec = Json` | how the body is written: a type that implements `sdk::Codec` | `sdk::Json` |
/// | `upcast(1 = OrderCreatedV1)` | the contracts of older versions, each a `Message` of the same name with `From` to this type | older versions are refused |
/// | `reply = StockLevel` | the message is a question, and this message the answer: implements `sdk::Call` | no `Call` |
/// | `crate = my_crate::sdk` | where the framework is, if not at `::sdk` | `::sdk` |
///
/// `upcast` may name one older contract, which has an `upcast` of its own, and so on: a message of version 1 then goes through `From` of each to its
/// neighbour. It may also name several, `upcast(1 = V1, 2 = V2)`: then each comes here in one step. A version that is not named goes through the next
/// newer one that is.
#[proc_macro_derive(Message, attributes(message))]
pub fn message(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    expand::message(input.into()).unwrap_or_else(syn::Error::into_compile_error).into()
}
