//! The header `Date` of HTTP responses. RFC 9110 section 6.6.1: "An origin server with a clock (...) MUST generate a Date
//! header field in all 2xx (Successful), 3xx (Redirection), and 4xx (Client Error) responses".

use std::time::SystemTime;

/// Inserts the header behind the first line of a response, unless the response has one already.
pub(super) fn insert(response: &mut Vec<u8>) {
    let mut lines = response.split_inclusive(|&byte| byte == b'\n');
    let first_len = lines.next().map_or(0, <[u8]>::len);
    let mut headers = lines.take_while(|line| *line != b"\r\n");
    if headers.any(|line| line.starts_with(b"date:")) {
        return;
    }
    let line = format!("date: {}\r\n", httpdate::fmt_http_date(SystemTime::now()));
    response.extend_from_slice(line.as_bytes());
    response[first_len..].rotate_right(line.len());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::HttpResponse;

    fn with_date(response: &HttpResponse) -> String {
        let mut bytes = Vec::new();
        response.encode(false, &mut bytes);
        insert(&mut bytes);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_response_gets_a_date_behind_its_first_line() {
        let text = with_date(&HttpResponse::new(200, "date: 1\n"));
        let (first, rest) = text.split_once("\r\n").unwrap();
        let (date, rest) = rest.split_once("\r\n").unwrap();
        assert_eq!(first, "HTTP/1.1 200 OK");
        let date = httpdate::parse_http_date(date.strip_prefix("date: ").unwrap()).unwrap();
        assert!(date.elapsed().unwrap().as_secs() < 3600);
        assert!(rest.starts_with("content-type: ") && rest.ends_with("\r\n\r\ndate: 1\n"));
    }

    #[test]
    fn a_date_of_the_application_stays() {
        let response = HttpResponse::new(200, "")
            .with_header("Date", "then")
            .unwrap();
        assert_eq!(with_date(&response).matches("date:").count(), 1);
    }
}
