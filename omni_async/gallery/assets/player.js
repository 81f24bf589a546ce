// Plays one clip at a time over its poster. A video is loaded when it is played, and let go of when it stops.

class Player {
  constructor() {
    this.media = null;
    this.video = null;
  }

  isAt(media) {
    return this.media === media;
  }

  play(media, source) {
    if (this.media === media) return;
    this.stop();
    const video = el("video", { src: source, loop: true, playsinline: true, muted: true, preload: "auto", tabindex: -1 });
    video.muted = true; // what a browser lets play without being asked
    video.addEventListener("playing", () => video.classList.add("shows"), { once: true });
    video.addEventListener("error", () => this.video === video && this.stop());
    [this.media, this.video] = [media, video];
    media.classList.add("plays");
    media.append(video);
    video.play().catch(() => {});
  }

  stop() {
    if (!this.media) return;
    const { media, video } = this;
    [this.media, this.video] = [null, null];
    media.classList.remove("plays");
    video.pause();
    video.removeAttribute("src");
    video.load();
    video.remove();
  }

  toggle(media, source) {
    if (this.media === media) this.stop();
    else this.play(media, source);
  }
}
