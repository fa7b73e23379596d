//! Other names in place of the user's own: what is shown of a run may not say what its files and cases
//! are called.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use toml::{Table, Value};

/// What stands in the place of a reason that may hold any name in words of its own.
pub(crate) const UNTOLD: &str = "the reason is not told under pseudonyms";

/// A name of the user's that is to be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name<'a> {
    /// A case's sample id.
    Case(&'a str),
    /// A path, or a part of one.
    File(&'a str),
}

/// Gives every name of a case, a file or a folder another one.
///
/// It decides alone what a name becomes: the same name should become the same each time, and a name that
/// it has given itself should stay what it is.
///
/// ```
/// use dinorad_report::{Name, Renaming};
///
/// let renaming = Renaming::new(|name| match name {
///     Name::Case(id) => format!("case {}", id.len()),
///     Name::File(path) => format!("file {}", path.len()),
/// });
/// assert_eq!(renaming.case("DOE^JOHN/1.png"), "case 14");
/// ```
#[derive(Clone)]
pub struct Renaming(Arc<dyn Fn(Name<'_>) -> String + Send + Sync>);

impl fmt::Debug for Renaming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Renaming(..)")
    }
}

impl Renaming {
    /// By a function that gives the new name.
    pub fn new(give: impl Fn(Name<'_>) -> String + Send + Sync + 'static) -> Self {
        Self(Arc::new(give))
    }

    /// A case's other name.
    pub fn case(&self, id: &str) -> String {
        (self.0)(Name::Case(id))
    }

    /// Another name for a path, or for a part of one.
    pub fn file(&self, path: &str) -> String {
        (self.0)(Name::File(path))
    }
}

/// A renaming with the names that may occur within sentences.
///
/// Sentences are searched for whole words: a name counts where no letter or digit touches it. Words that
/// everybody may read (classes, parts, the names of data sets and encoders) are protected.
#[derive(Debug)]
pub(crate) struct Told<'a> {
    names: &'a Renaming,
    words: BTreeMap<String, String>,
    /// Lengths in bytes of the words there are.
    lengths: BTreeSet<usize>,
    protected: BTreeSet<String>,
}

/// Words below this length are names only where they stand by themselves: `3` is none in `0.3`.
const SHORT: usize = 4;

impl<'a> Told<'a> {
    pub(crate) fn new(names: &'a Renaming, protected: impl IntoIterator<Item = String>) -> Self {
        let parts = ["train", "val", "test", "validation"].map(str::to_owned);
        let protected = protected.into_iter().chain(parts).collect();
        Self { names, words: BTreeMap::new(), lengths: BTreeSet::new(), protected }
    }

    fn learn(&mut self, word: &str, become_: impl FnOnce() -> String) {
        if !word.is_empty() && !self.protected.contains(word) && !self.words.contains_key(word) {
            self.lengths.insert(word.len());
            self.words.insert(word.to_owned(), become_());
        }
    }

    /// Learns a case's id, and the names of files and folders that it is made of.
    pub(crate) fn learn_case(&mut self, id: &str) {
        let names = self.names;
        let new = names.case(id);
        // what has its other name already holds none of the user's
        if new == id {
            return;
        }
        self.learn(id, || new);
        self.learn_parts(id);
    }

    /// Learns a path with the name of its file.
    pub(crate) fn learn_path(&mut self, path: &str) {
        let names = self.names;
        let new = names.file(path);
        if new == path {
            return;
        }
        self.learn(path, || new);
        if let Some(last) = path.rsplit(['/', '\\']).find(|part| !part.is_empty()) {
            self.learn_parts(last);
        }
    }

    fn learn_parts(&mut self, path: &str) {
        let names = self.names;
        for part in path.split(['/', '\\']).filter(|part| part.len() >= SHORT) {
            self.learn(part, || names.file(part));
            if let Some((stem, _)) = part.rsplit_once('.').filter(|(stem, _)| stem.len() >= SHORT) {
                self.learn(stem, || names.file(stem));
            }
        }
    }

    pub(crate) fn case(&self, id: &str) -> String {
        self.names.case(id)
    }

    pub(crate) fn file(&self, path: &str) -> String {
        self.names.file(path)
    }

    /// A sentence with other names for those that are known, and for every path from a root.
    pub(crate) fn text(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut at = 0;
        let mut before: Option<char> = None;
        while let Some(next) = text[at..].chars().next() {
            match self.known(text, at, before) {
                Some((length, new)) => {
                    out.push_str(new);
                    at += length;
                    before = text[..at].chars().next_back();
                }
                None => {
                    out.push(next);
                    at += next.len_utf8();
                    before = Some(next);
                }
            }
        }
        self.without_paths(&out)
    }

    /// The longest known name that begins here.
    fn known(&self, text: &str, at: usize, before: Option<char>) -> Option<(usize, &str)> {
        if before.is_some_and(char::is_alphanumeric) {
            return None;
        }
        self.lengths.iter().rev().find_map(|&length| {
            let word = text.get(at..at + length)?;
            let new = self.words.get(word)?;
            let after = text[at + length..].chars().next();
            let whole = match length < SHORT {
                true => {
                    let open = |c: char| c.is_whitespace() || matches!(c, '(' | '`' | '"' | '\'');
                    let shut = |c: char| c.is_whitespace() || matches!(c, ')' | '`' | '"' | '\'' | ':' | ',' | ';');
                    before.is_none_or(open) && after.is_none_or(shut)
                }
                false => !after.is_some_and(char::is_alphanumeric),
            };
            whole.then_some((length, new.as_str()))
        })
    }

    fn without_paths(&self, text: &str) -> String {
        let splits = |c: char| c.is_whitespace() || matches!(c, '`' | '"' | '\'' | '(' | ')' | ',' | ';');
        let mut out = String::with_capacity(text.len());
        for piece in text.split_inclusive(splits) {
            let word = piece.trim_end_matches(splits);
            let end = &piece[word.len()..];
            let bare = word.trim_end_matches([':', '.']);
            if is_path(bare) {
                out.push_str(&self.file(bare));
                out.push_str(&word[bare.len()..]);
            } else {
                out.push_str(word);
            }
            out.push_str(end);
        }
        out
    }

    /// A command as it may be shown: flags, numbers and what the description says anyway stay, every other
    /// word has another name.
    pub(crate) fn command(&self, command: &str) -> String {
        let stays = |word: &str| {
            COMMANDS.contains(&word)
                || self.protected.contains(word)
                || word.split([',', '/']).all(|number| number.parse::<f64>().is_ok())
        };
        let told = |word: &str| if word.is_empty() || stays(word) { word.to_owned() } else { self.file(word) };
        let words = command.split_whitespace().map(|word| match word.split_once('=') {
            Some((flag, value)) if flag.starts_with('-') => format!("{flag}={}", told(value)),
            _ if word.starts_with('-') => word.to_owned(),
            _ => told(word),
        });
        words.collect::<Vec<_>>().join(" ")
    }

    /// A description with other names in the place of paths, whatever their keys are called.
    pub(crate) fn table(&self, table: &mut Table) {
        table.iter_mut().for_each(|(key, value)| self.value(key, value));
    }

    fn value(&self, key: &str, value: &mut Value) {
        match value {
            Value::String(text) if PATHS.contains(&key) || is_local(text) => *text = self.file(text),
            Value::String(text) => *text = self.text(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.value(key, item)),
            Value::Table(table) => self.table(table),
            _ => {}
        }
    }
}

/// Keys of a description whose values are paths.
const PATHS: [&str; 3] = ["root", "splits", "init"];

/// Words of a command line that are dinorad's own.
const COMMANDS: [&str; 11] =
    ["dinorad", "quickstart", "embed", "eval", "run", "report", "compare", "export", "pca", "knn", "linear"];

/// Every path of a description, by what [`Told::table`] would replace.
pub(crate) fn paths_of(table: &Table) -> Vec<String> {
    fn below(key: &str, value: &Value, out: &mut Vec<String>) {
        match value {
            Value::String(text) if PATHS.contains(&key) || is_local(text) => out.push(text.clone()),
            Value::Array(items) => items.iter().for_each(|item| below(key, item, out)),
            Value::Table(table) => table.iter().for_each(|(key, value)| below(key, value, out)),
            _ => {}
        }
    }
    let mut out = Vec::new();
    table.iter().for_each(|(key, value)| below(key, value, &mut out));
    out
}

/// Whether a word is a path by its looks: from a root, a home, here or above, or with backslashes.
fn is_path(word: &str) -> bool {
    let from = ["/", "~/", "./", "../"].iter().any(|start| word.len() > start.len() && word.starts_with(start));
    from || word.contains('\\')
}

/// Whether a whole value names a file or folder of this machine; `facebook/dinov2-small` may be one on the Hub.
fn is_local(text: &str) -> bool {
    let file = [".safetensors", ".pth", ".pt", ".bin", ".npz", ".csv"].iter().any(|end| text.ends_with(end));
    !text.contains(char::is_whitespace) && (is_path(text) || file || text.matches('/').count() > 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn renaming() -> Renaming {
        Renaming::new(|name| match name {
            Name::Case(id) => format!("case-{}", id.len()),
            Name::File(path) => format!("file-{}", path.len()),
        })
    }

    #[test]
    fn sentences_keep_everything_but_names() {
        let names = renaming();
        let mut told = Told::new(&names, ["pneumonia".to_owned()]);
        told.learn_case("pneumonia/DOE^JOHN/MRN12-05.png");
        told.learn_case("3");
        told.learn_path("../clinic/table.csv");
        for (text, expected) in [
            ("pneumonia/DOE^JOHN/MRN12-05.png: slices 4", "case-31: slices 4"),
            ("could not decode MRN12-05.png (pneumonia)", "could not decode file-12 (pneumonia)"),
            ("of MRN12-05.dcm, DOE^JOHN's", "of file-8.dcm, file-8's"),
            ("xMRN12-05.png", "xMRN12-05.png"),
            ("3: cosine 0.3, 13", "case-1: cosine 0.3, 13"),
            ("see /ward/doe/a.png: gone", "see file-15: gone"),
            ("table.csv of C:\\Users\\doe", "file-9 of file-12"),
            ("facebook/dinov2-small and/or 1/2", "facebook/dinov2-small and/or 1/2"),
            ("", ""),
        ] {
            assert_eq!(told.text(text), expected, "{text}");
        }
        let command = "dinorad eval knn --dataset csv --root=clinic -o ward --k 1,5 --shard 3/16 pneumonia";
        let expected = "dinorad eval knn --dataset file-3 --root=file-6 -o file-4 --k 1,5 --shard 3/16 pneumonia";
        assert_eq!(told.command(command), expected);
    }

    #[test]
    fn descriptions_keep_everything_but_paths() {
        let names = renaming();
        let told = Told::new(&names, []);
        let text = "seed = 1\n[data]\nname = \"csv\"\nroot = \"ward\"\ntest = { name = \"nih\", root = \"b\" }\n[encoder]\n\
                    source = \"facebook/dinov2-small\"\n[method]\ninit = \"start.npz\"\n";
        let mut table: Table = text.parse().unwrap();
        assert_eq!(paths_of(&table).len(), 3);
        told.table(&mut table);
        let expected = text.replace("\"ward\"", "\"file-4\"").replace("\"b\"", "\"file-1\"");
        let expected: Table = expected.replace("start.npz", "file-9").parse().unwrap();
        assert_eq!(table, expected);
        let mut local: Table = "source = \"weights/doe/model\"\n".parse().unwrap();
        told.table(&mut local);
        assert_eq!(local["source"].as_str(), Some("file-17"));
    }
}
