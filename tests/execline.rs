//! Our reading of scripts against execline's own: the same words, or an error in both.
//!
//! `execlineb -P` reads a script that begins with a program that prints its arguments, so that what follows
//! is printed as it was understood. Without execline on this machine there is nothing to compare with, and
//! the tests say so and pass.

use perennial::execline::parse;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};

/// Goes before each script: prints every argument after the first, ended by NUL. The first is there because
/// printf without any prints what one empty argument would.
const PRINTER: &[u8] = b"printf \"%s\\\\0\" first\n";

/// What execlineb makes of a script: its words, or `None` for a syntax error.
fn reference(script: &[u8]) -> Option<Vec<Vec<u8>>> {
    let whole = [PRINTER, script].concat();
    let output = Command::new("execlineb")
        .args(["-P", "-c"])
        .arg(OsStr::from_bytes(&whole))
        .stdin(Stdio::null())
        .output()
        .expect("execlineb was there a moment ago");
    match output.status.code() {
        Some(0) => {}
        Some(100) if output.stdout.is_empty() => return None,
        _ => panic!("{script:?}: {}", String::from_utf8_lossy(&output.stderr)),
    }
    let mut words: Vec<Vec<u8>> = output.stdout.split(|&b| b == 0).map(<[u8]>::to_vec).collect();
    words.pop();
    Some(words.split_off(1))
}

/// Whether there is anything to compare with.
fn is_installed() -> bool {
    let there = Command::new("execlineb").args(["-P", "-c", ""]).status().is_ok_and(|s| s.success());
    if !there {
        println!("skipped: execlineb is not installed (Debian package execline)");
    }
    there
}

fn assert_same(script: &[u8]) {
    let ours = parse(script);
    assert_eq!(ours.clone().ok(), reference(script), "{}: {ours:?}", script.escape_ascii());
}

/// Every row of the lexer's tables, every escape, every way to end.
#[test]
fn chosen_scripts_mean_the_same() {
    if !is_installed() {
        return;
    }
    let scripts: &[&[u8]] = &[
        // Blanks, newlines, comments.
        b"",
        b" \n\t\r\x01\x1f\n",
        b"a b\tc\rd\x01e\x0bf\x1fg\x7fh\x80i\xffj",
        b"a\r\nb\r\n",
        b"#!/bin/sh\nexec /x # y\n#z",
        b"#",
        b"a # b \" {\nc",
        b"a# b#c \"d\"#e",
        b"\xc3\xa4 $HOME ${HOME} $* ' ` ; & | < > ( ) [ ] * ? ~ ! % ^ , = + -",
        // Backslashes between words and in them.
        b"a \\\nb",
        b"a \\\n\\\n b \\",
        b"\\",
        b"\\a \\  \\\" \\\\ \\# \\{ \\} \\n",
        b"a\\b a\\ b a\\\nb a\\\\ a\\\"b a\\#",
        b"a\\",
        b"\\a\\",
        b"\\\\\\",
        // Strings.
        b"\"\" a\"\" \"\"\"\" \"a b\"c\"d\"",
        b"\"a\nb\tc # {\"",
        b"\"a\\\nb\"",
        b"\"a",
        b"\"a\\",
        b"a \"b\" c\"",
        br#""\a\b\c\d\e\f\g\h\i\j\k\l\m\n\o\p\q\r\s\t\u\v\w\x\y\z""#,
        br#""\A\N\X\"\\\#\ \{\}\'\$\-""#,
        // Numbers in strings.
        br#""\1\2\3\4\5\6\7\8\9""#,
        br#""\65\066\0x43""#,
        br#""\1234\01234\0x1234""#,
        br#""\255\0377\0xff\0xFF\0xfF""#,
        br#""\10a\010a\0x1g\0xaz""#,
        br#""\65"a "\0101"b "\0x41"c"#,
        br#""\65\66" "\0101\0102" "\0x41\0x42""#,
        b"\"\\65\n\\0101\n\\0x41\n\"",
        br#""\65 {#}" "\09""#,
        br#""\256""#,
        br#""\300""#,
        br#""\999""#,
        br#""\0400""#,
        br#""\0777""#,
        br#""\0""#,
        br#""\00""#,
        br#""\000""#,
        br#""\0000""#,
        br#""\0x0""#,
        br#""\0x00""#,
        br#""\0x""#,
        br#""\0xg""#,
        br#""\0X41""#,
        br#""\08""#,
        br#""\0a""#,
        b"\"\\0\n1\"",
        // The end right after an escape.
        br#""\6"#,
        br#""\65"#,
        br#""\065"#,
        br#""\0101"#,
        br#""\0x4"#,
        br#""\0x41"#,
        br#""\256"#,
        br#""\0x0"#,
        br#""\0"#,
        br#""\0x"#,
        br#""\n"#,
        br#""\65\"#,
        b"{ \"\\65",
        // Braces.
        b"{ b c } d",
        b"a { b { c } } d",
        b"{ } x",
        b"{ \"}\" } x",
        b"{ \"\" } \"\"",
        b"{\n}\n{\t}\r{\x01}",
        b"{ { { } } { } }",
        b"{a b} }} {{ a{ }b {} }{ {# }#",
        b"{\"a b\" }\"c d\"e",
        b"{ {a }b }",
        b"{ \\{ \\} }",
        b"{",
        b"{ ",
        b"a {",
        b"a { b",
        b"{ { }",
        b"}",
        b"} ",
        b"a }",
        b"{ } }",
        b"{ a }}",
        b"{ a # }",
        b"{ a # }\n}",
        b"{ a \"}",
        // A backslash after a brace.
        b"{\\",
        b"}\\",
        b"{\\a b }\\c",
        b"{\\ a }\\ b {\\{ }\\}",
        b"{\\\nb",
        b"{\\\n # c\n\n b",
        b"{\\\n",
        b"{\\\n\\\nb",
        b"{\\\n}",
        b"{\\\n\"a b\"",
        b"{\\\n{ a }",
        b"{ {\\a b }",
        b"{ {\\\n a b } c",
        b"{ a }\\\n} b",
        b"{ {\\\n{ a } }",
        b"{ {\\\n} } b",
        b"{ { a }\\\n} } b",
        b"{ a }\\",
    ];
    for script in scripts {
        assert_same(script);
    }
}

/// Only a file can hold a NUL: it ends the script.
#[test]
fn a_nul_ends_the_script_in_both() {
    if !is_installed() {
        return;
    }
    let path = std::env::temp_dir().join(format!("perennial-execline-{}", std::process::id()));
    for script in [
        &b"a b\0 c"[..],
        b"a\0b",
        b"a \0 { \"",
        b"a # b\0\nc",
        b"\0",
        b"{ a\0 }",
        b"\"a\0\"",
        b"\"\\65\0\"",
        b"a\\\0b",
    ] {
        std::fs::write(&path, [PRINTER, script].concat()).unwrap();
        let output = Command::new("execlineb").arg("-P").arg(&path).output().unwrap();
        let words = output.stdout.split(|&b| b == 0).skip(1);
        let mut words: Vec<Vec<u8>> = words.map(<[u8]>::to_vec).collect();
        words.pop();
        let reference = output.status.success().then_some(words);
        assert_eq!(parse(script).ok(), reference, "{}", script.escape_ascii());
    }
    std::fs::remove_file(&path).unwrap();
}

/// An empty script, and one that has only comments, succeed without running anything.
#[test]
fn nothing_to_run_is_success_in_both() {
    if !is_installed() {
        return;
    }
    for script in ["", "\n", "# nothing", "#!/bin/sh\n", "\\\n"] {
        assert_eq!(parse(script.as_bytes()), Ok(vec![]));
        assert!(Command::new("execlineb").args(["-P", "-c", script]).status().unwrap().success());
    }
}

/// Pieces of which scripts are made: what matters to the lexer often, any byte sometimes.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => Just(b" ".to_vec()),
        2 => Just(b"\n".to_vec()),
        4 => Just(b"\"".to_vec()),
        4 => Just(b"\\".to_vec()),
        3 => Just(b"{ ".to_vec()),
        3 => Just(b" }".to_vec()),
        1 => Just(b"{".to_vec()),
        1 => Just(b"}".to_vec()),
        1 => Just(b"#".to_vec()),
        1 => Just(b"\\0x".to_vec()),
        1 => Just(b"\\0".to_vec()),
        3 => "[0-9]".prop_map(String::into_bytes),
        3 => "[a-gnrtvxA-G]".prop_map(String::into_bytes),
        1 => (1u8..).prop_map(|byte| vec![byte]),
    ]
}

/// A whole string, or a whole block: scripts of these are mostly without errors.
fn sound_piece() -> impl Strategy<Value = Vec<u8>> {
    let string = r#""([^"\\\x00]|\\[^0-9\x00]|\\[1-9]|\\1[0-9]{2}|\\0[1-7]{1,2}|\\0x[1-9a-fA-F]{1,2}){0,6}""#;
    let leaf = prop_oneof![
        4 => string.prop_map(String::into_bytes),
        4 => r#"[ab${}#]?([^ \n{}"\\#\x00]|\\[^\x00])[ab{}#]?"#.prop_map(String::into_bytes),
        2 => "[ \n\t]".prop_map(String::into_bytes),
        1 => Just(b" \\\n".to_vec()),
        1 => " #[a-z\" {]{0,4}\n".prop_map(String::into_bytes),
    ];
    leaf.prop_recursive(4, 24, 6, |inner| {
        prop::collection::vec(inner, 0..6).prop_map(|inner| [&b" { "[..], &inner.concat(), b" } "].concat())
    })
}

/// Runs a comparison over generated scripts, two processes each. PROPTEST_CASES asks for more.
fn compare(scripts: impl Strategy<Value = Vec<u8>>) {
    if !is_installed() {
        return;
    }
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&scripts, |script| {
        let (ours, theirs) = (parse(&script), reference(&script));
        prop_assert_eq!(ours.clone().ok(), theirs, "{}: {:?}", script.escape_ascii(), ours);
        Ok(())
    });
    outcome.unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn any_mixture_means_the_same() {
    compare(prop::collection::vec(piece(), 0..24).prop_map(|pieces| pieces.concat()));
}

#[test]
fn sound_scripts_mean_the_same() {
    compare(prop::collection::vec(sound_piece(), 0..12).prop_map(|pieces| pieces.concat()));
}
