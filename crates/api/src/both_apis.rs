//! The two forms of the native API say the same of each entity: a field that one of them has, the other has too, or this list says why not.

use std::collections::BTreeSet;

use utoipa::PartialSchema;

/// All of the `.proto` files in which entities are.
const PROTO: &str = concat!(
    include_str!("../proto/posthouse/v1/admin.proto"),
    include_str!("../proto/posthouse/v1/definitions.proto"),
    include_str!("../proto/posthouse/v1/message.proto"),
    include_str!("../proto/posthouse/v1/publish.proto"),
    include_str!("../proto/posthouse/v1/replay.proto"),
);

/// Fields that one form has only: the entity, the field, and why.
const ONE_SIDED: &[(&str, &str, &str)] = &[
    ("TopicConfig", "hash_header", "protobuf has no enum with content; JSON's is within `router`"),
    ("TopicConfig", "hash_property", "protobuf has no enum with content; JSON's is within `router`"),
    ("BindingConfig", "to_queue", "a member of `target`'s oneof; the oneof has no name on the wire"),
    ("BindingConfig", "to_topic", "as `to_queue`"),
    ("BindingConfig", "target", "JSON's name for the oneof"),
];

/// The names of a message's fields, read from the text of the `.proto` file.
fn proto_fields(message: &str) -> BTreeSet<String> {
    let begin = format!("\nmessage {message} {{\n");
    let (_, body) = PROTO.split_once(&begin).unwrap_or_else(|| panic!("there is no message {message}"));
    let (body, _) = body.split_once("\n}\n").unwrap_or((body, ""));
    let mut fields = BTreeSet::new();
    let mut within_enum = false;
    for line in body.lines().map(str::trim).filter(|line| !line.starts_with("//")) {
        within_enum = (within_enum || line.starts_with("enum ")) && !line.starts_with('}');
        // `optional uint64 name = 3;`: the word before the sign.
        let field = line.split_once(" = ").filter(|_| !within_enum).and_then(|(left, _)| left.split(' ').next_back());
        fields.extend(field.map(str::to_owned));
    }
    fields
}

/// The names of a JSON object's members, from its schema.
fn json_fields<T: PartialSchema>() -> BTreeSet<String> {
    let schema = serde_json::to_value(T::schema()).expect("a schema is JSON");
    let properties = schema["properties"].as_object().unwrap_or_else(|| panic!("no object: {schema}"));
    properties.keys().cloned().collect()
}

macro_rules! pairs {
    ($($name:ident),* $(,)?) => {
        [$((stringify!($name), json_fields::<crate::$name>(), proto_fields(stringify!($name)))),*]
    };
}

#[test]
fn both_apis_say_the_same_of_each_entity() {
    let entities = pairs![
        Status,
        BackupProgress,
        Namespace,
        NamespaceConfig,
        Quota,
        Topic,
        TopicConfig,
        Retention,
        Partition,
        Queue,
        QueueConfig,
        QueueEffective,
        QueueDepth,
        QueueCounters,
        QueueRates,
        Retry,
        Breaker,
        Webhook,
        Redrive,
        Removed,
        Browsed,
        Binding,
        BindingConfig,
        Group,
        GroupConfig,
        GroupMember,
        GroupPartition,
        Policy,
        PolicyConfig,
        PolicyValues,
        PolicyBounds,
        Permissions,
        SubjectPermissions,
        User,
        UserLimits,
        TokenInfo,
        Published,
        Position,
    ];
    let mut used = Vec::new();
    let mut wrong = Vec::new();
    for (entity, json, proto) in entities {
        assert!(!json.is_empty() && !proto.is_empty(), "{entity} has no fields");
        for field in json.symmetric_difference(&proto) {
            match ONE_SIDED.iter().find(|(of, one, _)| *of == entity && one == field) {
                Some(known) => used.push(known),
                None => {
                    let only = if json.contains(field) { "JSON" } else { "protobuf" };
                    wrong.push(format!("{entity}.{field} is in {only} only"));
                }
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert_eq!(used.len(), ONE_SIDED.len(), "an exception that is none any more");
}
