//! A mail server on loopback that answers as it is told.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A mail as the server took it.
#[derive(Clone, Debug)]
pub struct Mail {
    pub recipients: Vec<String>,
    pub text: String,
}

impl Mail {
    /// A header, unfolded.
    pub fn header(&self, name: &str) -> String {
        let head = self.text.split("\r\n\r\n").next().unwrap().to_owned();
        let head = head.replace("\r\n ", " ").replace("\r\n\t", " ");
        let prefix = format!("{}: ", name.to_ascii_lowercase());
        head.lines()
            .find(|line| line.to_ascii_lowercase().starts_with(&prefix))
            .map_or(String::new(), |line| line[prefix.len()..].to_owned())
    }
}

/// What the server answers to a command, told its whole line and how often that verb came; `None`
/// is the usual answer, an empty text closes the connection, [`HANG`] keeps it open. The end of a mail is the verb `.`.
pub type Script = fn(line: &str, nth: usize) -> Option<&'static str>;

/// Says nothing for longer than anybody waits.
pub const HANG: &str = "hang";

pub struct Server {
    pub port: u16,
    mails: Arc<Mutex<Vec<Mail>>>,
    task: JoinHandle<()>,
}

impl Server {
    pub async fn start(script: Script) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mails = Arc::new(Mutex::new(Vec::new()));
        let verbs = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&mails);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, script, Arc::clone(&seen), Arc::clone(&verbs)));
            }
        });
        Server { port, mails, task }
    }

    pub fn mails(&self) -> Vec<Mail> {
        self.mails.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    stream: TcpStream,
    script: Script,
    mails: Arc<Mutex<Vec<Mail>>>,
    verbs: Arc<Mutex<Vec<String>>>,
) -> Option<()> {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 test ESMTP\r\n").await.ok()?;
    let mut recipients = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        let verb = line.split([' ', ':']).next().unwrap().to_ascii_uppercase();
        let mut answer = scripted(script, line, &verb, &verbs);
        if answer.is_none() {
            answer = Some(match &*verb {
                "EHLO" => "250-test\r\n250-8BITMIME\r\n250 AUTH PLAIN",
                "AUTH" => "235 welcome",
                "DATA" => "354 go on",
                "QUIT" => "221 bye",
                _ => "250 fine",
            });
        }
        let answer = answer?;
        if answer == HANG {
            tokio::time::sleep(std::time::Duration::from_secs(60)).await;
        }
        if answer.is_empty() {
            return None;
        }
        stream
            .write_all(format!("{answer}\r\n").as_bytes())
            .await
            .ok()?;
        match &*verb {
            "MAIL" => recipients.clear(),
            "RCPT" if answer.starts_with('2') => recipients.push(line[8..].to_owned()),
            "DATA" if answer.starts_with('3') => {
                let text = read_mail(&mut stream).await?;
                let end = scripted(script, ".", ".", &verbs).unwrap_or("250 taken");
                if end.is_empty() {
                    return None;
                }
                if end.starts_with('2') {
                    let recipients = recipients.clone();
                    mails.lock().unwrap().push(Mail { recipients, text });
                }
                stream
                    .write_all(format!("{end}\r\n").as_bytes())
                    .await
                    .ok()?;
            }
            _ => {}
        }
    }
}

fn scripted(
    script: Script,
    line: &str,
    verb: &str,
    verbs: &Mutex<Vec<String>>,
) -> Option<&'static str> {
    let mut verbs = verbs.lock().unwrap();
    let nth = verbs.iter().filter(|seen| *seen == verb).count();
    verbs.push(verb.to_owned());
    script(line, nth)
}

async fn read_mail(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut text = String::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        if line == ".\r\n" {
            return Some(text);
        }
        text.push_str(line.strip_prefix('.').unwrap_or(&line));
    }
}
