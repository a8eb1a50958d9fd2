use super::*;

#[test]
fn the_unit_depends_on_the_magnitude() {
    let times = [
        (0.0, "0.00us"),
        (999.9, "999.90us"),
        (1500.0, "1.50ms"),
        (2_500_000.0, "2.50s"),
    ];
    for (micros, text) in times {
        assert_eq!(time(micros), text);
    }
    let amounts = [(0.0, "0.00"), (56_200.0, "56.20k"), (6e6, "6.00M")];
    for (number, text) in amounts {
        assert_eq!(amount(number), text);
    }
    let sizes = [
        (0.0, "0B"),
        (1023.0, "1023B"),
        (1024.0, "1.00KB"),
        (1_572_864.0, "1.50MB"),
        (3_221_225_472.0, "3.00GB"),
    ];
    for (number, text) in sizes {
        assert_eq!(bytes(number), text);
    }
    assert_eq!((seconds(10.0), seconds(0.3)), ("10s".into(), "0.3s".into()));
}

#[test]
fn only_errors_that_occurred_are_printed() {
    let text = |errors| {
        let mut out = String::new();
        write_errors(&mut out, &errors, Some("the reason")).unwrap();
        out
    };
    assert_eq!(text(Errors::default()), "");
    let errors = Errors {
        read: 2,
        missing: 7,
        ..Errors::default()
    };
    let expected = "  Errors: read 2, missing 7\n  First error: the reason\n";
    assert_eq!(text(errors), expected);
}

#[test]
fn a_ratio_to_zero_is_zero() {
    assert_eq!((ratio(1.0, 0.0), ratio(6.0, 3.0)), (0.0, 2.0));
}
