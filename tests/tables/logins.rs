//! Reads `logins.txt`, the table that tests of the login rules and of the running server share.

const TABLE: &str = include_str!("logins.txt");

/// What one client presents, and as whom it is let in (`account/user`; `None`: not at all).
pub(crate) struct Login {
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) token: Option<String>,
    pub(crate) accepted_as: Option<String>,
}

pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) configuration: String,
    pub(crate) logins: Vec<Login>,
}

/// The cases of a feature; there is at least one.
pub(crate) fn cases(feature: &str) -> Vec<Case> {
    let cases: Vec<Case> = TABLE
        .split("\n== ")
        .skip(1)
        .filter(|text| text.starts_with(feature))
        .map(case)
        .collect();
    assert!(!cases.is_empty(), "no case of {feature}");
    cases
}

fn case(text: &'static str) -> Case {
    let (name, text) = text.split_once('\n').expect("a name");
    let mut case = Case {
        name,
        configuration: String::new(),
        logins: Vec::new(),
    };
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("in ") {
            let (who, fields) = rest.split_once(" =").expect("in WHO = FIELDS");
            case.logins.push(login(Some(who.to_owned()), fields));
        } else if let Some(fields) = line.strip_prefix("out") {
            case.logins.push(login(None, fields));
        } else {
            case.configuration.push_str(&with_hashes(line));
            case.configuration.push('\n');
        }
    }
    assert!(!case.logins.is_empty(), "{name}: nobody logs in");
    case
}

fn login(accepted_as: Option<String>, fields: &str) -> Login {
    let field = |name: &str| {
        let mut all = fields.split_whitespace();
        all.find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
            .map(str::to_owned)
    };
    Login {
        user: field("user"),
        password: field("pass"),
        token: field("token"),
        accepted_as,
    }
}

fn with_hashes(line: &str) -> String {
    let Some((before, rest)) = line.split_once("{hash:") else {
        return line.to_owned();
    };
    let (what, after) = rest.split_once('}').expect("the end of a hash");
    let (kind, password) = what.split_once(':').expect("KIND:PASSWORD");
    let hash = bcrypt::hash(password, 4).expect("a hash");
    format!("{before}${kind}{}{after}", hash.split_at(3).1)
}
