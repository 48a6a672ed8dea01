use super::{ServiceBinding, ServiceParams};

/// Reads a text, and reads again what is written for it and sent.
fn check(text: &str, wire: &[u8]) {
    let binding: ServiceBinding = text.parse().unwrap();
    assert_eq!(binding.to_wire().unwrap(), wire, "{text}");
    assert_eq!(ServiceBinding::from_wire(wire).unwrap(), binding, "{text}");
    let again = binding.to_string();
    assert_eq!(again.parse::<ServiceBinding>().unwrap(), binding, "{again}");
}

/// `name` as its labels.
fn labels(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for label in name.split('.') {
        out.push(label.len() as u8);
        out.extend(label.bytes());
    }
    out.push(0);
    out
}

/// RFC 9460 appendix D.1 and D.2.
#[test]
fn the_test_vectors_of_the_rfc() {
    let with = |priority: &[u8], name: &str, params: &[u8]| {
        [priority, &if name.is_empty() { vec![0] } else { labels(name) }, params].concat()
    };
    let (com, org) = ("foo.example.com", "foo.example.org");
    check("0 foo.example.com.", &with(&[0, 0], com, &[]));
    check("1 .", &with(&[0, 1], "", &[]));
    check("16 foo.example.com. port=53", &with(&[0, 16], com, b"\0\x03\0\x02\0\x35"));
    check("1 foo.example.com. key667=hello", &with(&[0, 1], com, b"\x02\x9b\0\x05hello"));
    check(
        r#"1 foo.example.com. key667="hello\210qoo""#,
        &with(&[0, 1], com, b"\x02\x9b\0\x09hello\xd2qoo"),
    );
    let v6 = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let other = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x53, 0, 1];
    check(
        r#"1 foo.example.com. ipv6hint="2001:db8::1,2001:db8::53:1""#,
        &with(&[0, 1], com, &[b"\0\x06\0\x20", &v6[..], &other].concat()),
    );
    let last = [0x20, 1, 0xd, 0xb8, 1, 0x22, 3, 0x44, 0, 0, 0, 0, 192, 0, 2, 33];
    check(
        "1 example.com. ipv6hint=\"2001:db8:122:344::192.0.2.33\"",
        &with(&[0, 1], "example.com", &[b"\0\x06\0\x10", &last[..]].concat()),
    );
    // Neither the parameters nor what is mandatory come in order.
    check(
        "16 foo.example.org. alpn=h2,h3-19 mandatory=ipv4hint,alpn ipv4hint=192.0.2.1",
        &with(
            &[0, 16],
            org,
            b"\0\0\0\x04\0\x01\0\x04\0\x01\0\x09\x02h2\x05h3-19\0\x04\0\x04\xc0\0\x02\x01",
        ),
    );
    let odd = with(&[0, 16], org, b"\0\x01\0\x0c\x08f\\oo,bar\x02h2");
    check(r#"16 foo.example.org. alpn="f\\\\oo\\,bar,h2""#, &odd);
    check(r"16 foo.example.org. alpn=f\\\092oo\092,bar,h2", &odd);
}

/// RFC 9460 appendix D.3, and more of the kind.
#[test]
fn what_cannot_be_is_refused() {
    for params in [
        "key123=abc key123=def",
        "mandatory",
        "alpn",
        "port",
        "ipv4hint",
        "ipv6hint",
        "ech",
        "alpn=h2 no-default-alpn=abc",
        "mandatory=key123",
        "mandatory=mandatory",
        "mandatory=key123,key123 key123=abc",
        "no-default-alpn",
        "key65535=x",
        "key+1=x",
        "key70000",
        "key",
        "nonsense=1",
        "=x",
        "port=65536",
        "ipv4hint=::1",
        "ech=?",
        "alpn=h2,,h3",
        r"alpn=h2\\x",
        "alpn=\"h2",
        "alpn=\"h2\"port=1",
        r"key9=\25",
        r"key11=\256",
        "key11=\\",
    ] {
        let read = format!("1 foo.example.com. {params}").parse::<ServiceBinding>();
        assert!(read.is_err(), "{params}: {read:?}");
    }
    for text in ["", "1", "x .", "-1 .", "65536 ."] {
        assert!(text.parse::<ServiceBinding>().is_err(), "{text}");
    }
}

#[test]
fn unknown_and_later_parameters_stay() {
    for (text, want) in [
        (r"1 . key65534=\000x ohttp alpn=h2", r#"1 . alpn="h2" key8 key65534="\000x""#),
        ("1 svc.test. dohpath=/q{?dns}", r#"1 svc.test. dohpath="/q{?dns}""#),
        ("1\t.  tls-supported-groups=29,23", r#"1 . key9="\000\029\000\023""#),
        ("1 . docpath=dns,x", r#"1 . key10="\003dns\001x""#),
        (r"1 . key1=\002h2 KEY3=\001\187", r#"1 . alpn="h2" port="443""#),
        ("1 . key11=a=b", "1 . key11=\"a=b\""),
    ] {
        let read: ServiceBinding = text.parse().unwrap();
        assert_eq!(read.to_string(), want);
        assert_eq!(want.parse::<ServiceBinding>().unwrap(), read);
    }
}

#[test]
fn broken_data_is_no_panic() {
    let text = "1 svc.test. mandatory=alpn alpn=h2,h3 port=1 ipv4hint=192.0.2.1 ech=AAA=";
    let wire = text.parse::<ServiceBinding>().unwrap().to_wire().unwrap();
    for end in 0..wire.len() {
        let mut bad = wire.clone();
        bad[end] ^= 0xff;
        let _ = ServiceBinding::from_wire(&bad);
        if let Ok(part) = ServiceBinding::from_wire(&wire[..end]) {
            assert_eq!(part.to_wire().unwrap(), wire[..end]);
        }
    }
    // Not in order, and twice.
    assert!(ServiceBinding::from_wire(b"\0\x01\0\0\x0b\0\0\0\x0a\0\0").is_err());
    assert!(ServiceBinding::from_wire(b"\0\x01\0\0\x0b\0\0\0\x0b\0\0").is_err());
}

#[test]
fn parameters_are_set_beside_others() {
    let mut params: ServiceParams = "port=8443 alpn=h2 ech=AAA=".parse().unwrap();
    params.set_alpn(&["h3", "h2"]).unwrap();
    params.set_ech(b"list").unwrap();
    assert_eq!(params.to_string(), r#"alpn="h3,h2" port="8443" ech="bGlzdA==""#);
    assert_eq!(params.ech(), Some(&b"list"[..]));
    assert!(params.set_alpn::<&str>(&[]).is_err());
    assert!(params.set_alpn(&[""]).is_err());
    assert!(params.set_ech(&[0; 70_000]).is_err());
}

#[test]
fn only_the_same_priority_and_target_are_replaced() {
    let ours: ServiceBinding = "2 . alpn=h2".parse().unwrap();
    assert!(ours.is_own());
    for (written, want) in [
        ("2 . alpn=h3", true),
        ("2 .", true),
        ("2  . who=knows", true),
        ("1 . alpn=h3", false),
        ("2 svc.test. alpn=h3", false),
        ("", false),
    ] {
        assert_eq!(ours.replaces(written), want, "{written}");
    }
}

/// Whatever can be read of a message is written so that it is read again, and sent the same.
#[test]
fn nothing_is_lost_on_the_way() {
    let text = r"7 svc.test. mandatory=alpn,port alpn=f\\\\oo\\\,b,h2 no-default-alpn port=1
        ipv4hint=192.0.2.1 ech=AAA= ipv6hint=2001:db8::1 dohpath=/q{?dns} ohttp key4711=\000\034x";
    let good = text.parse::<ServiceBinding>().unwrap().to_wire().unwrap();
    let mut random = fastrand::Rng::with_seed(7);
    let mut read = 0;
    for _ in 0..20_000 {
        let mut wire = good.clone();
        for _ in 0..random.usize(..4) {
            let at = random.usize(12..wire.len());
            wire[at] = random.u8(..);
        }
        let Ok(binding) = ServiceBinding::from_wire(&wire) else { continue };
        read += 1;
        assert_eq!(binding.to_wire().unwrap(), wire);
        let text = binding.to_string();
        assert_eq!(text.parse::<ServiceBinding>(), Ok(binding), "{text}");
        assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{text}");
    }
    assert!(read > 5_000, "{read}");
}
