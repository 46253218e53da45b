//! Templates as model families write them: short versions written for these tests that use the same features, with the expected text
//! worked out by hand.

use std::fs;

use super::*;

fn dialogue() -> Vec<Message> {
    vec![
        Message::new("system", "Be brief."),
        Message::new("user", " Hi "),
        Message::new("assistant", "Hello."),
        Message::new("user", "Rain?"),
    ]
}

fn template(text: &str) -> ChatTemplate {
    ChatTemplate::from_text(text).unwrap().with_variable("bos_token", "<s>").with_variable("eos_token", "</s>")
}

#[test]
fn chat_ml_with_a_default_system_message() {
    let template = template(
        "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}\
         {{ '<|im_start|>system\nDefault.<|im_end|>\n' }}{% endif %}\
         {{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}\
         {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    );
    assert_eq!(
        template.render(&dialogue()[1..2], true).unwrap(),
        "<|im_start|>system\nDefault.<|im_end|>\n<|im_start|>user\n Hi <|im_end|>\n<|im_start|>assistant\n"
    );
    assert_eq!(
        template.render(&dialogue()[..2], false).unwrap(),
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n Hi <|im_end|>\n"
    );
}

#[test]
fn the_system_message_folded_into_the_first_turn() {
    // Slices, `set` outside and inside a loop, exceptions, arithmetic on the loop index, methods of strings.
    let template = template(
        "{% if messages[0]['role'] == 'system' %}{% set system_message = messages[0]['content'] %}\
         {% set messages = messages[1:] %}{% else %}{% set system_message = false %}{% endif %}\
         {% for message in messages %}\
         {% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}\
         {{ raise_exception('Conversation roles must alternate user/assistant') }}{% endif %}\
         {% if loop.index0 == 0 and system_message != false %}\
         {% set content = '<<SYS>>\n' + system_message + '\n<</SYS>>\n\n' + message['content'] %}\
         {% else %}{% set content = message['content'] %}{% endif %}\
         {% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}\
         {% elif message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}\
         {% endfor %}",
    );
    assert_eq!(
        template.render(&dialogue(), true).unwrap(),
        "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n Hi [/INST] Hello. </s><s>[INST] Rain? [/INST]"
    );
    let e = template.render(&dialogue()[2..], true).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidConfig);
    assert_eq!(
        e.to_string(),
        "chat template: line 1: the chat template refuses the messages: Conversation roles must alternate user/assistant"
    );
    assert!(e.help().unwrap().contains("change the messages"));
}

#[test]
fn headers_and_a_date_with_a_fallback() {
    let text = "{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now(\"%d %b %Y\") %}
    {%- else %}
        {%- set date_string = \"26 Jul 2024\" %}
    {%- endif %}
{%- endif %}
{{- \"<|system|>\\n\" }}
{{- \"Today: \" + date_string + \"\\n\" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or 'tool_calls' in message) %}
        {{- '<|' + message['role'] + '|>\\n\\n' + message['content'] | trim + '<|eot|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|assistant|>\\n\\n' }}
{%- endif %}
";
    let template = template(text);
    let messages = &dialogue()[1..2];
    let expected = |date: &str| format!("<s><|system|>\nToday: {date}\n<|user|>\n\nHi<|eot|><|assistant|>\n\n");
    // The clock is not read: without a date the template falls back to its own.
    assert_eq!(template.render(messages, true).unwrap(), expected("26 Jul 2024"));
    let dated = template.clone().with_date("2025-01-31").unwrap();
    assert_eq!(dated.render(messages, true).unwrap(), expected("31 Jan 2025"));
    assert_eq!(template.render(messages, true).unwrap(), expected("26 Jul 2024"));
    let own = template.with_variable("date_string", "today");
    assert_eq!(own.render(messages, true).unwrap(), expected("today"));
}

#[test]
fn a_date_that_is_needed_is_asked_for() {
    let template = template("{% set today = strftime_now('%Y-%m-%d') %}{{ today }}");
    let e = template.render(&[], true).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidConfig);
    assert!(e.to_string().contains("asks for the current date") && e.help().unwrap().contains("set a date"), "{e}");
    assert_eq!(template.clone().with_date("2025-01-31T10:00").unwrap().render(&[], true).unwrap(), "2025-01-31");
    let e = template.with_date("tomorrow").unwrap_err();
    assert_eq!((e.kind(), e.to_string().as_str()), (ErrorKind::InvalidConfig, "\"tomorrow\": not a date"));
}

#[derive(Serialize)]
struct Tool {
    r#type: &'static str,
    name: &'static str,
    arguments: Vec<&'static str>,
}

#[test]
fn namespaces_reversed_messages_tools_and_thoughts() {
    let text = "{%- if tools %}
    {{- '<tools>' }}
    {%- for tool in tools %}
        {{- \"\\n\" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- '\\n</tools>\\n' }}
{%- endif %}
{%- set ns = namespace(multi_step=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step and message.role == \"user\" and message.content is string and not(message.content.startswith('<tool_response>')) %}
        {%- set ns.multi_step = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content %}
    {%- if '</think>' in content %}
        {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {{- loop.index0 ~ (':last:' if loop.index0 == ns.last_query_index else ':') ~ content + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- 'assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}";
    let messages = [
        Message::new("user", "a"),
        Message::new("assistant", "<think>\nno\n</think>\n\nb"),
        Message::new("user", "c"),
        Message::new("user", "<tool_response>d"),
    ];
    let plain = template(text);
    let expected = "0:a\n1:b\n2:last:c\n3:<tool_response>d\nassistant\n";
    assert_eq!(plain.render(&messages, true).unwrap(), expected);
    let silent = plain.with_variable("enable_thinking", false);
    assert_eq!(silent.render(&messages, true).unwrap(), format!("{expected}<think>\n\n</think>\n\n"));

    let tools = [Tool { r#type: "function", name: "rain", arguments: vec!["city", "day"] }];
    assert_eq!(
        silent.with_variable("tools", tools).render(&messages[..1], false).unwrap(),
        "<tools>\n{\"type\": \"function\", \"name\": \"rain\", \"arguments\": [\"city\", \"day\"]}\n</tools>\n0:last:a\n"
    );
}

#[test]
fn a_template_without_system_role() {
    let text = "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{% for message in messages %}
{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}
{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}
{% endfor %}
{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}";
    let gemma_like = template(text);
    // One newline after each block tag goes, those after variables stay.
    assert_eq!(
        gemma_like.render(&dialogue()[1..3], true).unwrap(),
        "<s><start_of_turn>user\nHi<end_of_turn>\n\n<start_of_turn>model\nHello.<end_of_turn>\n\n<start_of_turn>model\n"
    );
    let e = gemma_like.render(&dialogue(), true).unwrap_err();
    assert!(e.to_string().ends_with("System role not supported"), "{e}");
}

#[test]
fn filtered_messages_and_joined_lists() {
    let template = template(
        "{{ bos_token }}{% for m in messages | rejectattr('role', 'equalto', 'system') | list %}\
         {% if m.role == 'user' %}[INST] {{ m.content | trim }} [/INST]{% else %}{{ m.content }}{{ eos_token }}{% endif %}\
         {% if loop.index > 2 %}{% break %}{% endif %}{% endfor %}\
         {{ messages | map(attribute='role') | join(',') }}|{{ none }}|{{ true }}|{{ missing }}|{{ messages[0].get('x', 'y') }}",
    );
    assert_eq!(
        template.render(&dialogue(), true).unwrap(),
        "<s>[INST] Hi [/INST]Hello.</s>[INST] Rain? [/INST]system,user,assistant,user|None|True||y"
    );
}

#[test]
fn the_same_template_gives_the_same_prompt_wherever_it_comes_from() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chat_template.jinja");
    let special = serde_json::json!({"bos_token": "<s>", "eos_token": {"content": "</s>"}});
    for end in ["\n", "\r\n", "\r"] {
        let text = ["{{ bos_token }}{% for m in messages %}", "<|{{ m.role }}|>", "{{ m.content }}{{ eos_token }}", ""]
            .join(end)
            + "{% endfor %}{% if tools is not none or documents is defined and documents is not none %}T{% endif %}";
        let mut config = special.clone();
        config["chat_template"] = text.clone().into();
        fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
        let rendered = |template: ChatTemplate| template.render(&[Message::new("user", "a\r\nb")], true).unwrap();
        let wanted = "<s><|user|>\na\r\nb</s>\n";
        assert_eq!(rendered(ChatTemplate::load(folder.path(), None).unwrap().unwrap()), wanted);
        fs::write(&path, &text).unwrap();
        assert_eq!(rendered(ChatTemplate::load(folder.path(), None).unwrap().unwrap()), wanted);
        let special = SpecialTokens::load(folder.path()).unwrap();
        assert_eq!(rendered(ChatTemplate::from_file(&path).unwrap().with_special_tokens(&special)), wanted);
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn what_a_template_reads_is_known() {
    let template = ChatTemplate::from_text(
        "{% set x = 1 %}{% for m in messages %}{{ m.role ~ x }}{% endfor %}{{ '%s' % enable_thinking }}\
         {% set ns = namespace() %}{% set ns.a = range(2) %}{{ raise_exception(bos_token) }}",
    );
    let known = template.unwrap().variables();
    assert_eq!(known.into_iter().collect::<Vec<_>>(), ["bos_token", "enable_thinking", "messages"]);
}

#[test]
fn a_long_conversation_may_take_longer() {
    let template =
        template("{% for m in messages %}{% for n in range(100) %}{{ n }}{% endfor %}{{ m.content }}{% endfor %}");
    let long: Vec<Message> = (0..2000).map(|i| Message::new("user", "x".repeat(2000 + i))).collect();
    assert!(template.render(&long, true).unwrap().len() > 4_000_000);
}

#[test]
fn messages_are_not_escaped_or_interpreted() {
    let template = template("{% for m in messages %}{{ m.content }}{% endfor %}");
    let hostile = "<b> & 'x' {{ bos_token }} {% raw %}\u{0}";
    assert_eq!(template.render(&[Message::new("user", hostile)], false).unwrap(), hostile);
}

#[test]
fn errors_name_the_file_and_the_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chat_template.jinja");

    fs::write(&path, "fine\n{% if %}").unwrap();
    let e = ChatTemplate::load(folder.path(), None).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidData);
    assert!(e.to_string().starts_with(&format!("{}: line 2: ", path.display())), "{e}");

    fs::write(&path, "fine\n\n{{ messages.nothing.at_all }}").unwrap();
    let e = ChatTemplate::load(folder.path(), None).unwrap().unwrap().render(&[], true).unwrap_err();
    assert!(e.to_string().starts_with(&format!("{}: line 3: ", path.display())), "{e}");
    assert_eq!(e.to_string().lines().count(), 1);

    let e = ChatTemplate::from_file(&folder.path().join("none.jinja")).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotFound);
}

#[test]
fn folders_keep_templates_in_several_places() {
    let folder = tempfile::tempdir().unwrap();
    let write = |file: &str, text: &str| fs::write(folder.path().join(file), text).unwrap();
    let rendered =
        |name| ChatTemplate::load(folder.path(), name).map(|template| template.map(|t| t.render(&[], false).unwrap()));
    assert_eq!(rendered(None).unwrap(), None);
    write("tokenizer_config.json", r#"{"eos_token": "</s>", "chat_template": null}"#);
    assert_eq!(rendered(None).unwrap(), None);

    write("tokenizer_config.json", r#"{"eos_token": "</s>", "chat_template": "text{{ eos_token }}{{ bos_token }}"}"#);
    assert_eq!(rendered(None).unwrap().unwrap(), "text</s>");

    let named = r#"[{"name": "default", "template": "d{{ eos_token }}"}, {"name": "tool_use", "template": "t"}]"#;
    write("tokenizer_config.json", &format!(r#"{{"eos_token": "</s>", "chat_template": {named}}}"#));
    assert_eq!(rendered(None).unwrap().unwrap(), "d</s>");
    assert_eq!(rendered(Some("tool_use")).unwrap().unwrap(), "t");
    let e = rendered(Some("rag")).unwrap_err();
    assert_eq!(
        (e.kind(), e.help().unwrap()),
        (ErrorKind::InvalidConfig, "name one of those that it has: default, tool_use")
    );

    write("chat_template.json", r#"{"chat_template": "processor"}"#);
    assert_eq!(rendered(None).unwrap().unwrap(), "processor");
    write("chat_template.jinja", "file {{ eos_token }}\n");
    assert_eq!(rendered(None).unwrap().unwrap(), "file </s>");

    fs::remove_file(folder.path().join("chat_template.jinja")).unwrap();
    write("chat_template.json", r#"{"chat_template": 7}"#);
    assert_eq!(rendered(None).unwrap_err().kind(), ErrorKind::InvalidData);
}
